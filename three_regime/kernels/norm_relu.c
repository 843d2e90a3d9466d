/* BatchNorm followed by ReLU: y = max(0, slope x + shift) for each channel.

   A strip is a number of rows with about STRIP floats in total, so vectors are filled even with few channels; the
   coefficients of the channels are repeated along it. Sums within a chunk of strips are single precision, sums over
   chunks are double precision. */

#include "common.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STRIP 256  /* floats */
#define CHUNK 4096 /* floats; fits into the L1 cache */

typedef struct {
  const float *x, *dy, *beside;
  float *y;
  long rows;
  int C, width; /* floats of a strip */
  long chunk;   /* rows of a chunk */
  float *slope, *shift, *third, *fourth;
  double *sums; /* two per channel and part */
} Norm;

static Norm prepared(long rows, int C, int threads) {
  int wide = C < STRIP ? STRIP / C : 1, width = wide * C;
  float *strips = allocate(sizeof(float) * 4 * width);
  return (Norm){.rows = rows, .C = C, .width = width, .chunk = (long)wide * (width < CHUNK ? CHUNK / width : 1),
                .slope = strips, .shift = strips + width, .third = strips + 2 * width, .fourth = strips + 3 * width,
                .sums = allocate(sizeof(double) * 2 * C * threads)};
}

static void discard(Norm *job) {
  free(job->slope);
  free(job->sums);
}

static void repeat(const Norm *job, float *strip, const float *channels) {
  for (int i = 0; i < job->width; i += job->C) memcpy(strip + i, channels, sizeof(float) * job->C);
}

INLINE long chunk_border(const Norm *job, int part, int parts) {
  long row = first_of((job->rows + job->chunk - 1) / job->chunk, part, parts) * job->chunk;
  return row < job->rows ? row : job->rows;
}

INLINE double down_channel(const Norm *job, const float *strip, int channel) {
  double total = 0;
  for (int i = channel; i < job->width; i += job->C) total += strip[i];
  return total;
}

/* Mean and sum of squared deviations of each channel over a part, merged from those of its chunks (Chan et al. 1979). */
static void deviations(void *argument, int part, int parts) {
  const Norm *job = argument;
  const int C = job->C, width = job->width;
  double *means = job->sums + 2L * C * part, *squares = means + C, count = 0;
  float *sum = allocate(sizeof(float) * (3 * width + C)), *square = sum + width, *mean = square + width;
  float *centre = mean + width;
  memset(means, 0, sizeof(double) * 2 * C);
  const long end = chunk_border(job, part + 1, parts);
  for (long row = chunk_border(job, part, parts); row < end; row += job->chunk) {
    const long rows = end - row < job->chunk ? end - row : job->chunk, floats = rows * C;
    const float *restrict chunk = job->x + row * C;
    memset(sum, 0, sizeof(float) * 2 * width);
    for (long at = 0; at < floats; at += width) {
      const int n = floats - at < width ? (int)(floats - at) : width;
      for (int i = 0; i < n; i++) sum[i] += chunk[at + i];
    }
    for (int c = 0; c < C; c++) centre[c] = (float)(down_channel(job, sum, c) / rows);
    repeat(job, mean, centre);
    for (long at = 0; at < floats; at += width) {
      const int n = floats - at < width ? (int)(floats - at) : width;
      for (int i = 0; i < n; i++) square[i] += (chunk[at + i] - mean[i]) * (chunk[at + i] - mean[i]);
    }
    for (int c = 0; c < C; c++) {
      double apart = centre[c] - means[c], share = rows / (count + rows);
      means[c] += apart * share;
      squares[c] += down_channel(job, square, c) + apart * apart * count * share;
    }
    count += rows;
  }
  free(sum);
}

static void normalise(void *argument, int part, int parts) {
  const Norm *job = argument;
  const float *restrict slope = job->slope, *restrict shift = job->shift;
  const long end = chunk_border(job, part + 1, parts) * job->C;
  for (long at = chunk_border(job, part, parts) * job->C; at < end; at += job->width) {
    const int n = end - at < job->width ? (int)(end - at) : job->width;
    const float *restrict x = job->x + at;
    float *restrict y = job->y + at;
    for (int i = 0; i < n; i++) {
      float value = slope[i] * x[i] + shift[i];
      y[i] = value < 0 ? 0 : value; /* keeps NaN */
    }
  }
}

/* saved: (4, C), mean and 1 / standard deviation of the batch (written, and running statistics updated, if `training`),
   slope and shift. If y is NULL, only these are computed. */
void norm_relu_forward(const float *x, float *y, long rows, int C, const float *weight, const float *bias,
                       float *running_mean, float *running_var, float *saved, double momentum, double epsilon,
                       int training, int threads) {
  float *slope = saved + 2 * C, *shift = saved + 3 * C;
  Norm job = prepared(rows, C, threads);
  job.x = x, job.y = y;
  if (training) {
    share(deviations, &job, threads);
    double *means = job.sums, *squares = means + C, count = chunk_border(&job, 1, threads);
    for (int part = 1; part < threads; part++) {
      double more = chunk_border(&job, part + 1, threads) - chunk_border(&job, part, threads);
      for (int c = 0; more > 0 && c < C; c++) {
        double apart = means[2L * C * part + c] - means[c], share = more / (count + more);
        means[c] += apart * share;
        squares[c] += squares[2L * C * part + c] + apart * apart * count * share;
      }
      count += more;
    }
    for (int c = 0; c < C; c++) {
      saved[c] = (float)means[c], saved[C + c] = (float)(1 / sqrt(squares[c] / rows + epsilon));
      running_mean[c] = (float)(momentum * means[c] + (1 - momentum) * running_mean[c]);
      running_var[c] = (float)(momentum * (squares[c] / (rows - 1)) + (1 - momentum) * running_var[c]);
    }
  }
  for (int c = 0; c < C; c++) {
    slope[c] = weight[c] * (training ? saved[C + c] : (float)(1 / sqrt(running_var[c] + epsilon)));
    shift[c] = bias[c] - (training ? saved[c] : running_mean[c]) * slope[c];
  }
  if (y) {
    repeat(&job, job.slope, slope);
    repeat(&job, job.shift, shift);
    share(normalise, &job, threads);
  }
  discard(&job);
}

/* A separate function, so gcc knows that the sums do not alias the inputs. */
static void add_gradients(float *restrict sum, float *restrict product, const float *restrict x,
                          const float *restrict dy, const float *restrict slope, const float *restrict shift,
                          const float *restrict mean, int n) {
  for (int i = 0; i < n; i++) {
    float given = dy[i], behind = slope[i] * x[i] + shift[i] <= 0 ? 0 : given;
    sum[i] += behind;
    product[i] += behind * (x[i] - mean[i]);
  }
}

/* Sums over a part of the gradient before the ReLU, and of its products with x - mean (`third`). */
static void gradient_sums(void *argument, int part, int parts) {
  const Norm *job = argument;
  const int C = job->C, width = job->width;
  double *sums = job->sums + 2L * C * part, *products = sums + C;
  float *sum = allocate(sizeof(float) * 2 * width), *product = sum + width;
  memset(sums, 0, sizeof(double) * 2 * C);
  const long end = chunk_border(job, part + 1, parts);
  for (long row = chunk_border(job, part, parts); row < end; row += job->chunk) {
    const long floats = (end - row < job->chunk ? end - row : job->chunk) * C;
    memset(sum, 0, sizeof(float) * 2 * width);
    for (long at = 0; at < floats; at += width) {
      const int n = floats - at < width ? (int)(floats - at) : width;
      const long from = row * C + at;
      add_gradients(sum, product, job->x + from, job->dy + from, job->slope, job->shift, job->third, n);
    }
    for (int c = 0; c < C; c++) sums[c] += down_channel(job, sum, c), products[c] += down_channel(job, product, c);
  }
  free(sum);
}

/* dx = slope gradient + third x + fourth, plus `beside` unless NULL. */
static void differentiate_norm(void *argument, int part, int parts) {
  const Norm *job = argument;
  const float *restrict slope = job->slope, *restrict shift = job->shift;
  const float *restrict third = job->third, *restrict fourth = job->fourth;
  const long end = chunk_border(job, part + 1, parts) * job->C;
  for (long at = chunk_border(job, part, parts) * job->C; at < end; at += job->width) {
    const int n = end - at < job->width ? (int)(end - at) : job->width;
    const float *restrict x = job->x + at, *restrict dy = job->dy + at;
    const float *restrict beside = job->beside ? job->beside + at : NULL;
    float *restrict dx = job->y + at;
    for (int i = 0; i < n; i++) {
      float given = dy[i], behind = slope[i] * x[i] + shift[i] <= 0 ? 0 : given;
      dx[i] = slope[i] * behind + (third[i] * x[i] + fourth[i]);
    }
    if (beside)
      for (int i = 0; i < n; i++) dx[i] += beside[i];
  }
}

/* `beside`: gradient from another use of x, added to dx; or NULL. */
void norm_relu_backward(const float *x, const float *dy, const float *beside, float *dx, long rows, int C,
                        const float *saved, float *dweight, float *dbias, int threads) {
  const float *mean = saved, *inverse = saved + C, *slope = saved + 2 * C, *shift = saved + 3 * C;
  Norm job = prepared(rows, C, threads);
  job.x = x, job.dy = dy, job.beside = beside, job.y = dx;
  repeat(&job, job.slope, slope);
  repeat(&job, job.shift, shift);
  repeat(&job, job.third, mean);
  share(gradient_sums, &job, threads);
  float *factors = allocate(sizeof(float) * 2 * C);
  for (int c = 0; c < C; c++) {
    double sum = 0, product = 0;
    for (int part = 0; part < threads; part++) {
      const double *sums = job.sums + 2L * C * part;
      sum += sums[c], product += sums[C + c];
    }
    double third = -slope[c] * (double)inverse[c] * inverse[c] * product / rows;
    dbias[c] = (float)sum, dweight[c] = (float)(product * inverse[c]);
    factors[c] = (float)third, factors[C + c] = (float)(-slope[c] * sum / rows - third * mean[c]);
  }
  repeat(&job, job.third, factors);
  repeat(&job, job.fourth, factors + C);
  free(factors);
  share(differentiate_norm, &job, threads);
  discard(&job);
}
