/* Scalar floating point by SSE2, and by the x87. */
#include "bench.h"

#include <math.h>

__attribute__((optimize("no-tree-vectorize"))) static uint64_t float_matrix(unsigned rounds) {
  enum { N = 64 };
  static double a[N][N], b[N][N], c[N][N];
  uint32_t seed = 9;
  for (int i = 0; i < N * N; i++) {
    a[i / N][i % N] = (next_random(&seed) & 0xffff) / 65536.0;
    b[i / N][i % N] = (next_random(&seed) & 0xffff) / 65536.0;
  }
  while (rounds-- > 0) {
    for (int i = 0; i < N; i++) {
      for (int j = 0; j < N; j++) {
        double s = 0;
        for (int k = 0; k < N; k++) s += a[i][k] * b[k][j];
        c[i][j] = s;
      }
    }
    for (int i = 0; i < N * N; i++) a[i / N][i % N] = c[i / N][i % N] / 32;
  }
  uint64_t sum = 0;
  for (int i = 0; i < N * N; i++) sum = mix(sum, bits_of(a[i / N][i % N]));
  return sum;
}

struct body {
  double position[3], velocity[3], mass;
};

/* The sun's planets attract each other, roughly. */
static uint64_t n_body(unsigned rounds) {
  enum { COUNT = 5, STEPS = 1000 };
  struct body bodies[COUNT];
  uint32_t seed = 21;
  for (int i = 0; i < COUNT; i++) {
    for (int k = 0; k < 3; k++) {
      bodies[i].position[k] = (double)(next_random(&seed) % 2000) / 50 - 20;
      bodies[i].velocity[k] = (double)(next_random(&seed) % 2000) / 500 - 2;
    }
    bodies[i].mass = i == 0 ? 39.5 : 0.01 * i;
  }
  for (unsigned step = 0; step < rounds * STEPS; step++) {
    for (int i = 0; i < COUNT; i++) {
      for (int j = i + 1; j < COUNT; j++) {
        double d[3], squares = 0.01;
        for (int k = 0; k < 3; k++) {
          d[k] = bodies[i].position[k] - bodies[j].position[k];
          squares += d[k] * d[k];
        }
        double force = 0.001 / (squares * sqrt(squares));
        for (int k = 0; k < 3; k++) {
          bodies[i].velocity[k] -= d[k] * bodies[j].mass * force;
          bodies[j].velocity[k] += d[k] * bodies[i].mass * force;
        }
      }
    }
    for (int i = 0; i < COUNT; i++) {
      for (int k = 0; k < 3; k++) bodies[i].position[k] += 0.001 * bodies[i].velocity[k];
    }
  }
  uint64_t sum = 0;
  for (int i = 0; i < COUNT; i++) {
    for (int k = 0; k < 3; k++) sum = mix(sum, bits_of(bodies[i].position[k]));
  }
  return sum;
}

/* Forwards, in place, radix 2. */
static uint64_t fft(unsigned rounds) {
  enum { N = 1024 };
  static double re[N], im[N], cosine[N / 2], sine[N / 2];
  /* The roots of unity by repeated multiplication: no library's sine takes part. */
  const double c1 = 0.99998117528260110909, s1 = 0.0061358846491544753597;
  cosine[0] = 1;
  sine[0] = 0;
  for (int i = 1; i < N / 2; i++) {
    cosine[i] = cosine[i - 1] * c1 - sine[i - 1] * s1;
    sine[i] = cosine[i - 1] * s1 + sine[i - 1] * c1;
  }
  uint32_t seed = 33;
  for (int i = 0; i < N; i++) {
    re[i] = (next_random(&seed) & 0xffff) / 65536.0;
    im[i] = 0;
  }
  while (rounds-- > 0) {
    for (int i = 1, j = 0; i < N; i++) {
      int bit = N >> 1;
      for (; (j & bit) != 0; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i >= j) continue;
      double t = re[i];
      re[i] = re[j];
      re[j] = t;
      t = im[i];
      im[i] = im[j];
      im[j] = t;
    }
    for (int size = 2; size <= N; size <<= 1) {
      int half = size / 2, step = N / size;
      for (int start = 0; start < N; start += size) {
        for (int k = 0; k < half; k++) {
          double wr = cosine[k * step], wi = -sine[k * step];
          int a = start + k, b = a + half;
          double xr = re[b] * wr - im[b] * wi, xi = re[b] * wi + im[b] * wr;
          re[b] = re[a] - xr;
          im[b] = im[a] - xi;
          re[a] += xr;
          im[a] += xi;
        }
      }
    }
    for (int i = 0; i < N; i++) {
      re[i] /= 32;
      im[i] /= 32;
    }
  }
  uint64_t sum = 0;
  for (int i = 0; i < N; i++) sum = mix(mix(sum, bits_of(re[i])), bits_of(im[i]));
  return sum;
}

__attribute__((noinline)) static double element(int i, int j) {
  return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1);
}

static uint64_t spectral_norm(unsigned rounds) {
  enum { N = 64 };
  double u[N], v[N], w[N];
  for (int i = 0; i < N; i++) u[i] = 1;
  while (rounds-- > 0) {
    for (int i = 0; i < N; i++) {
      w[i] = 0;
      for (int j = 0; j < N; j++) w[i] += element(i, j) * u[j];
    }
    for (int i = 0; i < N; i++) {
      v[i] = 0;
      for (int j = 0; j < N; j++) v[i] += element(j, i) * w[j];
    }
    double most = 0;
    for (int i = 0; i < N; i++) {
      if (v[i] > most) most = v[i];
    }
    for (int i = 0; i < N; i++) u[i] = v[i] / most;
  }
  uint64_t sum = 0;
  for (int i = 0; i < N; i++) sum = mix(sum, bits_of(v[i]));
  return sum;
}

/* The Mandelbrot set in 80 bits. */
static uint64_t x87(unsigned rounds) {
  enum { SIZE = 24, MOST = 100 };
  uint64_t sum = 0;
  while (rounds-- > 0) {
    for (int row = 0; row < SIZE; row++) {
      for (int column = 0; column < SIZE; column++) {
        long double cr = column * 3.0L / SIZE - 2, ci = row * 2.0L / SIZE - 1, zr = 0, zi = 0;
        int n = 0;
        while (n < MOST && zr * zr + zi * zi < 4) {
          long double t = zr * zr - zi * zi + cr;
          zi = 2 * zr * zi + ci;
          zr = t;
          n++;
        }
        sum = mix(sum, (uint64_t)n);
      }
    }
  }
  return sum;
}

const struct benchmark floating_point_benchmarks[] = {
    {"float-matrix", float_matrix, 60},
    {"n-body", n_body, 40},
    {"fft", fft, 500},
    {"spectral-norm", spectral_norm, 600},
    {"x87", x87, 40},
    {NULL, NULL, 0},
};
