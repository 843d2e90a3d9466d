/* 3x3 convolution, stride 1, padding 1, by Winograd's F(4x4, 3x3): 36 instead of 144 products for 16 results.

   The transforms are in winograd.h; there is one matrix product for each of the 36 elements of a transformed tile.
   Layouts: patches [36][GROUP][C], filters [36][K / LANES][C][LANES], products [36][GROUP][K]. */

#include "winograd.h"

#include <stdlib.h>
#include <string.h>

#define GROUP 8 /* tiles transformed together: enough accumulators to hide the latency of a product */

typedef struct {
  const float *x, *line, *weights, *addend, *dy; /* line: slope and shift of each channel, or NULL */
  float *filters, *y, *sums;
  int H, W, C, K;
  long tiles;
} Convolution;

INLINE long corner_of(const Convolution *job, long tile, int channels, int *row, int *column) {
  int across = job->W / SIDE, down = job->H / SIDE;
  *column = SIDE * (int)(tile % across), *row = SIDE * (int)(tile / across % down);
  return ((tile / across / down * job->H + *row) * job->W + *column) * channels;
}

INLINE vec rectified(vec value) { return (vec)((whole)value & ~(value < 0)); /* keeps NaN */ }

/* Transform patches of the input, or of max(0, slope x + shift); the padding is zero. */
INLINE void transform_patch(const Convolution *job, long tile, int slot, int C, float *patches) {
  int row, column;
  const float *corner = job->x + corner_of(job, tile, C, &row, &column) - ((long)job->W + 1) * C;
  const int above = row == 0, below = row + SIDE == job->H, left = column == 0, right = column + SIDE == job->W;
  const long step = (long)GROUP * C, line = (long)job->W * C;
  for (int c = 0; c < C; c += LANES) {
    vec m[REACH][REACH], slope = {0}, shift = {0};
    if (job->line) slope = LOAD(job->line + c), shift = LOAD(job->line + C + c);
    for (int j = 0; j < REACH; j++) {
      vec d[REACH];
      if ((j == 0 && left) || (j == REACH - 1 && right)) {
        for (int i = 0; i < REACH; i++) m[i][j] = (vec){0};
        continue;
      }
      for (int i = 0; i < REACH; i++) {
        if ((i == 0 && above) || (i == REACH - 1 && below)) {
          d[i] = (vec){0};
          continue;
        }
        d[i] = LOAD(corner + i * line + (long)j * C + c);
        if (job->line) d[i] = rectified(slope * d[i] + shift);
      }
      forward_patch(d);
      for (int i = 0; i < REACH; i++) m[i][j] = d[i];
    }
    float *to = patches + (long)slot * C + c;
    for (int i = 0; i < REACH; i++) {
      forward_patch(m[i]);
      for (int j = 0; j < REACH; j++, to += step) STORE(to, m[i][j]);
    }
  }
}

INLINE void transform_gradient(const Convolution *job, long tile, int slot, int K, float *gradients) {
  int row, column;
  const float *dy = job->dy + corner_of(job, tile, K, &row, &column);
  const long below = (long)job->W * K, step = (long)GROUP * K;
  for (int k = 0; k < K; k += LANES) {
    vec q[REACH][SIDE];
    for (int j = 0; j < SIDE; j++) {
      vec y[SIDE], m[REACH];
      for (int i = 0; i < SIDE; i++) y[i] = LOAD(dy + i * below + j * K + k);
      forward_gradient(y, m);
      for (int i = 0; i < REACH; i++) q[i][j] = m[i];
    }
    float *to = gradients + (long)slot * K + k;
    for (int i = 0; i < REACH; i++) {
      vec m[REACH];
      forward_gradient(q[i], m);
      for (int j = 0; j < REACH; j++, to += step) STORE(to, m[j]);
    }
  }
}

INLINE void transform_result(const Convolution *job, long tile, int slot, int K, const float *products) {
  int row, column;
  const long corner = corner_of(job, tile, K, &row, &column), below = (long)job->W * K, step = (long)GROUP * K;
  for (int k = 0; k < K; k += LANES) {
    const float *from = products + (long)slot * K + k;
    vec p[SIDE][REACH];
    for (int j = 0; j < REACH; j++) {
      vec m[REACH], y[SIDE];
      for (int i = 0; i < REACH; i++) m[i] = LOAD(from + (REACH * i + j) * step);
      back(m, y);
      for (int i = 0; i < SIDE; i++) p[i][j] = y[i];
    }
    for (int i = 0; i < SIDE; i++) {
      vec y[SIDE];
      back(p[i], y);
      for (int j = 0; j < SIDE; j++) {
        long to = corner + i * below + (long)j * K + k;
        if (job->addend) y[j] += LOAD(job->addend + to);
        STORE(job->y + to, y[j]);
      }
    }
  }
}

INLINE void multiply(const float *patches, const float *filters, float *products, int C, int K) {
  for (int k = 0; k < K; k += LANES) {
    vec sums[GROUP];
    for (int t = 0; t < GROUP; t++) sums[t] = (vec){0};
    for (int c = 0; c < C; c++) {
      vec filter = LOAD(filters + (long)k * C + c * LANES);
#pragma GCC unroll 16
      for (int t = 0; t < GROUP; t++) sums[t] += filter * patches[t * C + c];
    }
    for (int t = 0; t < GROUP; t++) STORE(products + t * K + k, sums[t]);
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
  float *patches = allocate(sizeof(float) * PLACES * (patch + product));
  float *products = patches + PLACES * patch;
  memset(patches, 0, sizeof(float) * PLACES * patch); /* a last group that is not full multiplies numbers, too */
  for (long group = first_of(groups, part, parts); group < first_of(groups, part + 1, parts); group++) {
    int tiles = tiles_in(job, group);
    for (int t = 0; t < tiles; t++) transform_patch(job, group * GROUP + t, t, C, patches);
    for (int p = 0; p < PLACES; p++)
      multiply(patches + p * patch, job->filters + (long)p * C * K, products + p * product, C, K);
    for (int t = 0; t < tiles; t++) transform_result(job, group * GROUP + t, t, K, products);
  }
  free(patches);
}

INLINE void gradients(const Convolution *job, int part, int parts, int C, int K) {
  const long groups = (job->tiles + GROUP - 1) / GROUP, patch = (long)GROUP * C, product = (long)GROUP * K;
  float *patches = allocate(sizeof(float) * PLACES * (patch + product));
  float *dy = patches + PLACES * patch, *sums = job->sums + PLACES * (long)C * K * part;
  memset(sums, 0, sizeof(float) * PLACES * C * K);
  for (long group = first_of(groups, part, parts); group < first_of(groups, part + 1, parts); group++) {
    int tiles = tiles_in(job, group);
    for (int t = 0; t < tiles; t++) {
      transform_patch(job, group * GROUP + t, t, C, patches);
      transform_gradient(job, group * GROUP + t, t, K, dy);
    }
    for (int p = 0; p < PLACES; p++)
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

static void transform(void *argument, int part, int parts) {
  const Convolution *job = argument;
  transform_filters(job->weights, job->filters, job->C, job->K, part, parts, 0);
}
static void transform_turned(void *argument, int part, int parts) {
  const Convolution *job = argument;
  transform_filters(job->weights, job->filters, job->C, job->K, part, parts, 1);
}

/* G' m G of the sum over threads. */
static void collect(void *argument, int part, int parts) {
  const Convolution *job = argument;
  const long units = (long)job->C * job->K / LANES, step = (long)job->C * job->K;
  for (long unit = first_of(units, part, parts); unit < first_of(units, part + 1, parts); unit++) {
    vec t[REACH][3], g[3][3];
    for (int j = 0; j < REACH; j++) {
      vec m[REACH];
      for (int i = 0; i < REACH; i++) {
        const float *sums = job->sums + (REACH * i + j) * step + unit * LANES;
        m[i] = LOAD(sums);
        for (int other = 1; other < parts; other++) m[i] += LOAD(sums + PLACES * step * other);
      }
      back_to_filter(m, t[j]);
    }
    for (int i = 0; i < 3; i++) {
      vec row[REACH];
      for (int j = 0; j < REACH; j++) row[j] = t[j][i];
      back_to_filter(row, g[i]);
    }
    const long from = unit % job->C, to = unit / job->C * LANES;
    for (int lane = 0; lane < LANES; lane++)
      for (int i = 0; i < 9; i++) job->y[((to + lane) * job->C + from) * 9 + i] = g[i / 3][i % 3][lane];
  }
}

static Convolution prepared(int N, int H, int W, int C, int K) {
  return (Convolution){.H = H, .W = W, .C = C, .K = K, .tiles = (long)N * H * W / (SIDE * SIDE)};
}

static void run(Convolution *job, Work *transformed, int threads) {
  job->filters = allocate(sizeof(float) * PLACES * job->C * job->K);
  share(transformed, job, threads);
  share(convolve, job, threads);
  free(job->filters);
}

/* y (N, H, W, K) = convolution of max(0, slope x + shift) with x (N, H, W, C), plus `addend` unless NULL.
   line: (2, C), slope and shift. H and W multiples of 4, C and K of 16. */
void conv_forward(const float *x, const float *line, const float *weights, const float *addend, float *y,
                  int N, int H, int W, int C, int K, int threads) {
  Convolution job = prepared(N, H, W, C, K);
  job.x = x, job.line = line, job.weights = weights, job.addend = addend, job.y = y;
  run(&job, transform, threads);
}

/* Gradient of what is convolved, from dy: the convolution of dy with the filters rotated by 180 degrees. */
void conv_backward_input(const float *dy, const float *weights, float *dx,
                         int N, int H, int W, int C, int K, int threads) {
  Convolution job = prepared(N, H, W, K, C);
  job.x = dy, job.weights = weights, job.y = dx;
  run(&job, transform_turned, threads);
}

void conv_backward_weights(const float *x, const float *line, const float *dy, float *dweights,
                           int N, int H, int W, int C, int K, int threads) {
  Convolution job = prepared(N, H, W, C, K);
  job.x = x, job.line = line, job.dy = dy, job.y = dweights, job.sums = allocate(sizeof(float) * PLACES * C * K * threads);
  share(differentiate, &job, threads);
  share(collect, &job, threads);
  free(job.sums);
}
