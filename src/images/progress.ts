/** How long work under way is reported to whoever shows it. */

export interface Progress {
  /** What is being done, for a person: `downloading linux-image-6.1.0-56-cloud-amd64`. */
  readonly step: string;
  /** Part done, 0 to 1; undefined where it cannot be known. */
  readonly fraction?: number;
  /** Bytes that the step moves in all, where known; times `fraction` gives the bytes moved. */
  readonly totalBytes?: number;
}

export type ProgressListener = (progress: Progress) => void;
