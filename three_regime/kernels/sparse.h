/* Training and evaluation of a pruned convolutional network at a cost proportional to its kept weights.

   LANES images are innermost in memory, so one kept weight times one position of LANES images is one fused multiply-add
   of a vector, with aligned neighbours at constant offsets: no im2col, no matrix, and a pruned weight costs nothing. A
   network is lowered once (`program.py`) to a list of layers that operate on feature maps.

   A map has the layout [block of LANES images][row][channel][column][lane], so all channels of a row are contiguous.
   Lanes of the last block beyond the batch are zero, and stay zero in every layer.

   BatchNorm needs no separate pass. A layer that writes a map accumulates the sums for its norms; a layer that reads it
   normalises and rectifies on input. Backward, with `behind` the gradient after masking by a ReLU,
     dx = slope behind + third x + fourth
   needs two sums over the whole batch before third and fourth are known. So `g` accumulates slope behind (of all readers
   of the map), and the layer that wrote the map adds third x + fourth when it reads g. */

#pragma once

#include "common.h"

#if LANES == 16
#define TILE 16 /* positions accumulated together: enough to hide latency, few enough for the registers */
#else
#define TILE 8
#endif

typedef struct {
  float *x, *g;
  float *mean, *variance, *third, *fourth; /* per channel */
  long channels, height, width;
  long normed; /* whether a norm reads it */
} Map;

typedef struct {
  long channels, weight, bias; /* weight, bias: offsets in the parameters */
  long slot;                   /* slot of the gradients of weight, then bias */
  double epsilon;
  float *slope, *shift;
} Norm;

enum { CONVOLUTION, AVERAGE, MAXIMUM, HEAD };

/* Lists of kept weights, for each output channel in turn: `at` is the offset of a weight's input from the upper left of
   the neighbourhood, in a band (below), `place` the offset of the weight in the parameters. The turned lists hold, for
   each input channel, its weights, for gradients. With stride 2 there are four of them in a row, one for each parity of
   row and column. */
typedef struct {
  long kind, from, to, norm, beside; /* indices of maps and norm, -1: none; `beside` is added to the result */
  long inputs, outputs, first;       /* channels; the outputs are first, first + 1, … of the map `to` */
  long kernel, stride, bias;         /* bias: offset in the parameters, or -1 */
  long wanted;                       /* whether the gradient of the input is needed */
  long adds;                         /* whether it is added to `g` of the input */
  long keeps;                        /* whether it writes the gradient of its result to `g`, for a shortcut */
  float *half;                       /* gradient at even rows and columns, of a strided 1x1 convolution, or NULL */
  long kept, slot;
  const int *begin, *at, *place;
  const int *turned_begin, *turned_at, *turned_place;
  float *weights, *turned, *sums; /* sums: (threads, kept, LANES) */
  long weight;                    /* place of the first weight, removed ones counted */
  float *filters, *turned_filters, *products; /* of a Winograd convolution (sparse_winograd.h), or NULL */
} Layer;

typedef struct {
  Map *maps;
  Norm *norms;
  Layer *layers;
  long layer_count;
  long slots;          /* number of trained parameters */
  const int *places;   /* slot -> offset in the parameters */
  float *gradient;     /* by slot */
  long classes, widest; /* widest: maximum channels of a map */
} Network;

enum { EVALUATE, STATISTICS, GRADIENT, STEP }; /* STATISTICS: forward in training mode */

typedef struct {
  float *parameters, *momentum; /* of all parameters, in the order of torch's module */
  float **means, **variances;   /* running statistics, per norm */
  const unsigned char *pixels;  /* (…, height, width, channels) */
  const float *levels;          /* (channels, 256): input value of each byte */
  const long *order, *shifts, *labels; /* order: indices of the batch, or NULL: from `start`; shifts: (N, 2), or NULL */
  const unsigned char *flips;
  float *logits; /* (N, classes), or NULL */
  double *totals; /* sum of losses, number of errors */
  long start, count, padding, mode, threads;
  double rate, factor, decay; /* learning rate, momentum, weight decay of SGD */
  double moved;               /* momentum of the running statistics */
} Call;

/* One pass of one layer. */
typedef struct {
  const Network *network;
  const Call *call;
  const Layer *layer;
  const Map *from, *to, *beside;
  const Norm *norm;
  double *sums;   /* (parts, 2, channels) */
  float *scratch; /* (parts, room) */
  long room;
} Pass;

void forward(void *pass, int part, int parts);
void backward(void *pass, int part, int parts);
void collect(void *pass, int part, int parts);
void winograd_forward(void *pass, int part, int parts);
void winograd_backward(void *pass, int part, int parts);
void winograd_collect(void *pass, int part, int parts);
void winograd_filters(const Layer *layer, const float *parameters, int part, int parts);
long winograd_room(const Network *network, const Layer *layer);
void pool_forward(void *pass, int part, int parts);
void pool_backward(void *pass, int part, int parts);
void head(void *pass, int part, int parts);
void head_collect(const Pass *pass, int parts);
void read_images(void *pass, int part, int parts);
long room_for(const Network *network, const Layer *layer); /* floats of scratch per part, for any of these */

/* ---- shared by the passes ---- */

INLINE long blocks_of(const Pass *pass) { return (pass->call->count + LANES - 1) / LANES; }

/* 1 in lanes of a block with an image, else 0. */
INLINE vec lanes_of(const Pass *pass, long block) {
  vec live;
  for (int lane = 0; lane < LANES; lane++) live[lane] = block * LANES + lane < pass->call->count;
  return live;
}

INLINE vec rectified(vec value) { return (vec)((whole)value & ~(value < 0)); /* keeps NaN */ }
INLINE vec where(whole condition, vec value) { return (vec)(condition & (whole)value); }
INLINE vec all(float value) { return value - (vec){0}; }

INLINE double across(vec value) {
  double sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += value[lane];
  return sum;
}

/* Fetch P columns (`step` apart) and R rows (`row` apart) into the cache. Tiles jump from channel to channel, which no
   prefetcher of a processor foresees, so each tile fetches what the next one needs of maps. */
INLINE void fetch(const float *from, long row, const int P, const int R, const int step) {
  const int line = step == 1 ? 16 / LANES : 1; /* vectors in a cache line */
#pragma GCC unroll 16
  for (int p = 0; p < P * R; p += line) __builtin_prefetch(from + p / P * row + p % P * step * LANES);
}

/* Distance to the next tile: to the right, or at the beginning of the next rows. */
INLINE long next_tile(long column, long width, long row, const int P, const int R, const int step) {
  return column + P < width ? P * step * LANES : step * (R * row - column * LANES);
}

INLINE float *row_of(const Map *map, float *data, long block, long row, long channel) {
  return data + ((block * map->height + row) * map->channels + channel) * map->width * LANES;
}

/* A band: rows of a map, padded by a column of zeros on either side and rows of zeros above and below the image. */
#ifndef BAND_FLOATS
#define BAND_FLOATS (28 << 10)
#endif
INLINE long band_row(long channels, long width) { return channels * (width + 2) * LANES; }
INLINE long band_rows(long channels, long width, long height, long stride) {
  long rows = (BAND_FLOATS / band_row(channels, width) - 2) / stride;
  rows = rows < 2 ? 2 : rows / 2 * 2;
  return rows < height ? rows : height;
}

/* Loop over tiles of columns: TILE positions, or two rows of half as many. */
#define ACROSS(WIDTH, ROWS, DO)                           \
  for (long x = 0; x < (WIDTH);) {                        \
    const long left = (WIDTH) - x;                        \
    if (left >= 16 && 16 * ROWS <= TILE) {                \
      DO(16, ROWS);                                       \
      x += 16;                                            \
    } else if (left >= 8 && 8 * ROWS <= TILE) {           \
      DO(8, ROWS);                                        \
      x += 8;                                             \
    } else if (left >= 4) {                               \
      DO(4, ROWS);                                        \
      x += 4;                                             \
    } else if (left >= 2) {                               \
      DO(2, ROWS);                                        \
      x += 2;                                             \
    } else {                                              \
      DO(1, ROWS);                                        \
      x += 1;                                             \
    }                                                     \
  }
