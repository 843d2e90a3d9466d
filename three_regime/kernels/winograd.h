/* Winograd's F(4x4, 3x3): the transforms of patches, filters and results, for both memory layouts.

   With d a 6x6 patch, g a filter and y a tile of 4x4 results (Lavin and Gray 2016):
   y = A' [(G g G') * (B' d B)] A,   dg = G' [(B' d B) * (A dy A')] G,
   where * is elementwise: 36 instead of 144 products for 16 results. Interpolation points are 0, +-3/4, +-3/2 and
   infinity: exact in binary, with half the rounding error of the usual 0, +-1, +-2. */

#pragma once

#include "common.h"

#define SIDE 4    /* side of a tile of results */
#define REACH 6   /* side of its input patch */
#define PLACES 36 /* elements of a transformed tile */

#define P 0.75f
#define Q 1.5f
#define PP (P * P)
#define QQ (Q * Q)
#define AT_0 (1 / (PP * QQ))
#define AT_P (1 / (2 * PP * (PP - QQ)))
#define AT_Q (1 / (2 * QQ * (QQ - PP)))

/* B' d: transform six numbers, in place. */
INLINE void forward_patch(vec d[REACH]) {
  vec even = d[4] - QQ * d[2], odd = d[3] - QQ * d[1], even2 = d[4] - PP * d[2], odd2 = d[3] - PP * d[1];
  d[0] = PP * QQ * d[0] + (d[4] - (PP + QQ) * d[2]), d[5] = PP * QQ * d[1] + (d[5] - (PP + QQ) * d[3]);
  d[1] = even + P * odd, d[2] = even - P * odd, d[3] = even2 + Q * odd2, d[4] = even2 - Q * odd2;
}

/* A dy: four numbers to six. */
INLINE void forward_gradient(const vec y[SIDE], vec q[REACH]) {
  vec even = y[0] + PP * y[2], odd = y[1] + PP * y[3], even2 = y[0] + QQ * y[2], odd2 = y[1] + QQ * y[3];
  q[0] = y[0], q[5] = y[3];
  q[1] = even + P * odd, q[2] = even - P * odd, q[3] = even2 + Q * odd2, q[4] = even2 - Q * odd2;
}

/* A' m: six numbers to four. */
INLINE void back(const vec m[REACH], vec y[SIDE]) {
  vec sum = m[1] + m[2], apart = m[1] - m[2], sum2 = m[3] + m[4], apart2 = m[3] - m[4];
  y[0] = m[0] + sum + sum2, y[1] = P * apart + Q * apart2;
  y[2] = PP * sum + QQ * sum2, y[3] = m[5] + P * PP * apart + Q * QQ * apart2;
}

/* G g: three numbers to six. */
INLINE void forward_filter(vec a, vec b, vec c, vec t[REACH]) {
  vec even = (a + PP * c) * AT_P, odd = P * AT_P * b, even2 = (a + QQ * c) * AT_Q, odd2 = Q * AT_Q * b;
  t[0] = a * AT_0, t[1] = even + odd, t[2] = even - odd, t[3] = even2 + odd2, t[4] = even2 - odd2, t[5] = c;
}

/* G' m: six numbers to three. */
INLINE void back_to_filter(const vec m[REACH], vec g[3]) {
  vec sum = (m[1] + m[2]) * AT_P, apart = (m[1] - m[2]) * AT_P, sum2 = (m[3] + m[4]) * AT_Q;
  vec apart2 = (m[3] - m[4]) * AT_Q;
  g[0] = m[0] * AT_0 + sum + sum2, g[1] = P * apart + Q * apart2, g[2] = m[5] + PP * sum + QQ * sum2;
}

/* G g G' of every filter, to [36][K / LANES][C][LANES]; `turned`: of the filters that take the gradient of the results
   back to the inputs. */
INLINE void transform_filters(const float *weights, float *filters, long C, long K, int part, int parts, int turned) {
  const long units = C * K / LANES, step = C * K;
  for (long unit = first_of(units, part, parts); unit < first_of(units, part + 1, parts); unit++) {
    const long from = unit % C, to = unit / C * LANES;
    float lanes[9][LANES];
    for (int lane = 0; lane < LANES; lane++) {
      const float *g = weights + 9 * (turned ? from * K + to + lane : (to + lane) * C + from);
      for (int i = 0; i < 9; i++) lanes[turned ? 8 - i : i][lane] = g[i];
    }
    vec g[9], t[3][REACH];
    for (int i = 0; i < 9; i++) g[i] = LOAD(lanes[i]);
    for (int j = 0; j < 3; j++) forward_filter(g[j], g[3 + j], g[6 + j], t[j]);
    float *out = filters + unit * LANES;
    for (int i = 0; i < REACH; i++) {
      vec m[REACH];
      forward_filter(t[0][i], t[1][i], t[2][i], m);
      for (int j = 0; j < REACH; j++, out += step) STORE(out, m[j]);
    }
  }
}

#undef P
#undef Q
#undef PP
#undef QQ
