/* Shared by the kernels: vectors, memory, and division of work among threads.

   Plain C with GCC's vector extension: gcc and clang, any processor. Work is divided into parts whose borders depend only
   on shapes and the number of threads, and partial sums are added in the order of the parts, so equal inputs give
   bit-identical results. Activations are NHWC (torch's channels-last), weights torch's contiguous (K, C, 3, 3). */

#pragma once

#include <stddef.h>

#if defined(__AVX512F__)
#define LANES 16
#define BLOCK 16 /* accumulators of a matrix product: half the registers */
#elif defined(__AVX__)
#define LANES 8
#define BLOCK 8
#else
#define LANES 4
#define BLOCK 8
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int whole __attribute__((vector_size(4 * LANES), may_alias));
#define LOAD(from) (*(const vec *)(from))
#define STORE(to, value) (*(vec *)(to) = (value))
#define INLINE static inline __attribute__((always_inline))

typedef void Work(void *job, int part, int parts);

void share(Work *work, void *job, int parts);
void *allocate(size_t bytes);

INLINE long first_of(long count, int part, int parts) { return count * part / parts; }
