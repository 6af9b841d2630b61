/**
 * Cases that isola is known to get wrong, by program and name, each with what is missing. The tests fail when one of
 * them comes out right: its line here must then go.
 */

export const KNOWN_GAPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {};
