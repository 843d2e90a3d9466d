/* 3x3 convolution, stride 1, padding 1, by Winograd's F(2x2, 3x3): 16 products for 4 results, not 36 ----

   d: 4x4 patch, g: filter, y: 2x2 results (Lavin and Gray 2016):
   y = A' [(G g G') * (B' d B)] A,   dg = G' [(B' d B) * (A dy A')] G,
   summed over channels, and over images and places, as one matrix product for each of the 16 places of a tile.
   Layouts: patches [16][GROUP][C], filters [16][K / LANES][C][LANES], products [16][GROUP][K]. */

#include "common.h"

#include <stdlib.h>
#include <string.h>

#define GROUP 16 /* tiles that are transformed together; a multiple of BLOCK */

typedef struct {
  const float *x, *filters, *addend, *dy;
  float *y, *sums;
  int H, W, C, K;
  long tiles;
} Convolution;

INLINE long corner_of(const Convolution *job, long tile, int channels, int *row, int *column) {
  int across = job->W / 2, down = job->H / 2;
  *column = 2 * (int)(tile % across), *row = 2 * (int)(tile / across % down);
  return ((tile / across / down * job->H + *row) * job->W + *column) * channels;
}

INLINE void transform_patch(const Convolution *job, long tile, int slot, int C, const float *zero, float *patches) {
  const float *at[16];
  int row, column;
  const float *corner = job->x + corner_of(job, tile, C, &row, &column);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      int inside = (unsigned)(row + i - 1) < (unsigned)job->H && (unsigned)(column + j - 1) < (unsigned)job->W;
      at[4 * i + j] = inside ? corner + ((i - 1L) * job->W + j - 1) * C : zero;
    }
  const long step = (long)GROUP * C;
  for (int c = 0; c < C; c += LANES) {
    vec m[4][4];
    for (int j = 0; j < 4; j++) {
      vec p = LOAD(at[j] + c), q = LOAD(at[4 + j] + c), r = LOAD(at[8 + j] + c), s = LOAD(at[12 + j] + c);
      m[0][j] = p - r, m[1][j] = q + r, m[2][j] = r - q, m[3][j] = q - s;
    }
    float *to = patches + (long)slot * C + c;
    for (int i = 0; i < 4; i++, to += 4 * step) {
      STORE(to, m[i][0] - m[i][2]);
      STORE(to + step, m[i][1] + m[i][2]);
      STORE(to + 2 * step, m[i][2] - m[i][1]);
      STORE(to + 3 * step, m[i][1] - m[i][3]);
    }
  }
}

INLINE void transform_gradient(const Convolution *job, long tile, int slot, int K, float *gradients) {
  int row, column;
  const float *dy = job->dy + corner_of(job, tile, K, &row, &column);
  const long below = (long)job->W * K, step = (long)GROUP * K;
  for (int k = 0; k < K; k += LANES) {
    vec q[4][2];
    for (int j = 0; j < 2; j++) {
      vec a = LOAD(dy + j * K + k), b = LOAD(dy + below + j * K + k);
      q[0][j] = a, q[1][j] = a + b, q[2][j] = a - b, q[3][j] = -b;
    }
    float *to = gradients + (long)slot * K + k;
    for (int i = 0; i < 4; i++, to += 4 * step) {
      STORE(to, q[i][0]);
      STORE(to + step, q[i][0] + q[i][1]);
      STORE(to + 2 * step, q[i][0] - q[i][1]);
      STORE(to + 3 * step, -q[i][1]);
    }
  }
}

INLINE void transform_result(const Convolution *job, long tile, int slot, int K, const float *products) {
  int row, column;
  const long corner = corner_of(job, tile, K, &row, &column), below = (long)job->W * K, step = (long)GROUP * K;
  for (int k = 0; k < K; k += LANES) {
    const float *from = products + (long)slot * K + k;
    vec p[2][4];
    for (int j = 0; j < 4; j++) {
      vec a = LOAD(from + j * step), b = LOAD(from + (4 + j) * step);
      vec c = LOAD(from + (8 + j) * step), d = LOAD(from + (12 + j) * step);
      p[0][j] = a + b + c, p[1][j] = b - c - d;
    }
    for (int i = 0; i < 2; i++) {
      vec left = p[i][0] + p[i][1] + p[i][2], right = p[i][1] - p[i][2] - p[i][3];
      long to = corner + i * below + k;
      if (job->addend) left += LOAD(job->addend + to), right += LOAD(job->addend + to + K);
      STORE(job->y + to, left);
      STORE(job->y + to + K, right);
    }
  }
}

INLINE void multiply(const float *patches, const float *filters, float *products, int C, int K) {
  for (int k = 0; k < K; k += LANES)
    for (int first = 0; first < GROUP; first += BLOCK) {
      vec sums[BLOCK];
      for (int t = 0; t < BLOCK; t++) sums[t] = (vec){0};
      for (int c = 0; c < C; c++) {
        vec filter = LOAD(filters + (long)k * C + c * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < BLOCK; t++) sums[t] += filter * patches[(first + t) * C + c];
      }
      for (int t = 0; t < BLOCK; t++) STORE(products + (first + t) * K + k, sums[t]);
    }
}

INLINE void multiply_and_add(const float *patches, const float *gradients, float *sums, int tiles, int C, int K) {
  for (int k = 0; k < K; k += LANES)
    for (int first = 0; first < C; first += BLOCK) {
      float *to = sums + (long)k * C + first * LANES;
      vec block[BLOCK];
      for (int c = 0; c < BLOCK; c++) block[c] = LOAD(to + c * LANES);
      for (int t = 0; t < tiles; t++) {
        vec gradient = LOAD(gradients + t * K + k);
#pragma GCC unroll 16
        for (int c = 0; c < BLOCK; c++) block[c] += gradient * patches[t * C + first + c];
      }
      for (int c = 0; c < BLOCK; c++) STORE(to + c * LANES, block[c]);
    }
}

INLINE int tiles_in(const Convolution *job, long group) {
  long left = job->tiles - group * GROUP;
  return left < GROUP ? (int)left : GROUP;
}

INLINE void results(const Convolution *job, int part, int parts, int C, int K) {
  const long groups = (job->tiles + GROUP - 1) / GROUP, patch = (long)GROUP * C, product = (long)GROUP * K;
  float *patches = allocate(sizeof(float) * (16 * (patch + product) + C));
  float *products = patches + 16 * patch, *zero = products + 16 * product;
  memset(patches, 0, sizeof(float) * 16 * patch); /* a last group that is not full multiplies numbers, too */
  memset(zero, 0, sizeof(float) * C);
  for (long group = first_of(groups, part, parts); group < first_of(groups, part + 1, parts); group++) {
    int tiles = tiles_in(job, group);
    for (int t = 0; t < tiles; t++) transform_patch(job, group * GROUP + t, t, C, zero, patches);
    for (int p = 0; p < 16; p++)
      multiply(patches + p * patch, job->filters + (long)p * C * K, products + p * product, C, K);
    for (int t = 0; t < tiles; t++) transform_result(job, group * GROUP + t, t, K, products);
  }
  free(patches);
}

INLINE void gradients(const Convolution *job, int part, int parts, int C, int K) {
  const long groups = (job->tiles + GROUP - 1) / GROUP, patch = (long)GROUP * C, product = (long)GROUP * K;
  float *patches = allocate(sizeof(float) * (16 * (patch + product) + C));
  float *dy = patches + 16 * patch, *zero = dy + 16 * product, *sums = job->sums + 16L * C * K * part;
  memset(sums, 0, sizeof(float) * 16 * C * K);
  memset(zero, 0, sizeof(float) * C);
  for (long group = first_of(groups, part, parts); group < first_of(groups, part + 1, parts); group++) {
    int tiles = tiles_in(job, group);
    for (int t = 0; t < tiles; t++) {
      transform_patch(job, group * GROUP + t, t, C, zero, patches);
      transform_gradient(job, group * GROUP + t, t, K, dy);
    }
    for (int p = 0; p < 16; p++)
      multiply_and_add(patches + p * patch, dy + p * product, sums + (long)p * C * K, tiles, C, K);
  }
  free(patches);
}

/* Numbers of channels that the compiler knows are a third faster. */
#define FOR_CHANNELS(function, name)                           \
  static void name(void *argument, int part, int parts) {      \
    const Convolution *job = argument;                         \
    if (job->C == 16 && job->K == 16)                          \
      function(job, part, parts, 16, 16);                      \
    else if (job->C == 32 && job->K == 32)                     \
      function(job, part, parts, 32, 32);                      \
    else if (job->C == 64 && job->K == 64)                     \
      function(job, part, parts, 64, 64);                      \
    else if (job->C == 128 && job->K == 128)                   \
      function(job, part, parts, 128, 128);                    \
    else                                                       \
      function(job, part, parts, job->C, job->K);              \
  }
FOR_CHANNELS(results, convolve)
FOR_CHANNELS(gradients, differentiate)

/* G g G' of every filter; `turned`: of the filters that take the gradient of K results back to C inputs. */
static void transform_filters(const float *weights, float *filters, int C, int K, int turned) {
  const long step = (long)C * K;
  for (int k = 0; k < K; k++)
    for (int c = 0; c < C; c++) {
      const float *g = weights + ((long)k * C + c) * 9;
      float f[9], t[4][3];
      for (int i = 0; i < 9; i++) f[i] = g[turned ? 8 - i : i];
      for (int j = 0; j < 3; j++) {
        t[0][j] = f[j], t[3][j] = f[6 + j];
        t[1][j] = 0.5f * (f[j] + f[3 + j] + f[6 + j]), t[2][j] = 0.5f * (f[j] - f[3 + j] + f[6 + j]);
      }
      int from = turned ? k : c, to = turned ? c : k, inputs = turned ? K : C;
      float *out = filters + ((long)(to / LANES) * inputs + from) * LANES + to % LANES;
      for (int i = 0; i < 4; i++, out += 4 * step) {
        out[0] = t[i][0], out[3 * step] = t[i][2];
        out[step] = 0.5f * (t[i][0] + t[i][1] + t[i][2]), out[2 * step] = 0.5f * (t[i][0] - t[i][1] + t[i][2]);
      }
    }
}

/* y (N, H, W, K) = convolution of x (N, H, W, C), plus `addend` unless NULL. H and W even, C and K multiples of 16. */
void conv_forward(const float *x, const float *weights, const float *addend, float *y,
                  int N, int H, int W, int C, int K, int threads) {
  float *filters = allocate(sizeof(float) * 16 * C * K);
  transform_filters(weights, filters, C, K, 0);
  Convolution job = {.x = x, .filters = filters, .addend = addend, .y = y,
                     .H = H, .W = W, .C = C, .K = K, .tiles = (long)N * H * W / 4};
  share(convolve, &job, threads);
  free(filters);
}

/* dx from dy: the convolution of dy with the filters turned about. */
void conv_backward_input(const float *dy, const float *weights, float *dx,
                         int N, int H, int W, int C, int K, int threads) {
  float *filters = allocate(sizeof(float) * 16 * C * K);
  transform_filters(weights, filters, C, K, 1);
  Convolution job = {.x = dy, .filters = filters, .y = dx,
                     .H = H, .W = W, .C = K, .K = C, .tiles = (long)N * H * W / 4};
  share(convolve, &job, threads);
  free(filters);
}

void conv_backward_weights(const float *x, const float *dy, float *dweights,
                           int N, int H, int W, int C, int K, int threads) {
  const long step = (long)C * K;
  float *sums = allocate(sizeof(float) * 16 * step * threads);
  Convolution job = {.x = x, .dy = dy, .sums = sums, .H = H, .W = W, .C = C, .K = K, .tiles = (long)N * H * W / 4};
  share(differentiate, &job, threads);
  for (int part = 1; part < threads; part++)
    for (long i = 0; i < 16 * step; i++) sums[i] += sums[16 * step * part + i];
  for (int k = 0; k < K; k++)
    for (int c = 0; c < C; c++) {
      const float *s = sums + ((long)(k / LANES) * C + c) * LANES + k % LANES;
      float t[3][4], *g = dweights + ((long)k * C + c) * 9;
      for (int j = 0; j < 4; j++) {
        float p = s[j * step], q = s[(4 + j) * step], r = s[(8 + j) * step], u = s[(12 + j) * step];
        t[0][j] = p + 0.5f * (q + r), t[1][j] = 0.5f * (q - r), t[2][j] = 0.5f * (q + r) + u;
      }
      for (int i = 0; i < 3; i++) {
        g[3 * i] = t[i][0] + 0.5f * (t[i][1] + t[i][2]), g[3 * i + 1] = 0.5f * (t[i][1] - t[i][2]);
        g[3 * i + 2] = 0.5f * (t[i][1] + t[i][2]) + t[i][3];
      }
    }
  free(sums);
}
