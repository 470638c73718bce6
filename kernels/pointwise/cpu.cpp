#include "pointwise/cpu.h"

#include "common/math.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kL = kLanes<float>;

GENFAST_INLINE Floats truth(Int32s mask) { return (Floats)(mask & kOneBits); }

// Lane by lane, for what the compiler has no vector of.
template <class F>
GENFAST_INLINE Floats each_lane(Floats x, F f) {
  Floats y = x;
  for (int i = 0; i < kL; i++) y[i] = f(x[i]);
  return y;
}

GENFAST_INLINE Floats square_root(Floats x) {
  return each_lane(x, [](float v) { return __builtin_sqrtf(v); });
}

// One row of an argument, from where a vector can be loaded at any place. A number that serves the whole row is laid out once.
struct Row {
  const float* data;
  int64_t lane;
  float same[kL];
  GENFAST_INLINE Row(const PointwiseArg& arg, int64_t m)
      : data(arg.at ? arg.at[m] + arg.start : arg.data + m * arg.row), lane(arg.lane) {
    if (lane == 0) {
      for (int i = 0; i < kL; i++) same[i] = *data;
      data = same;
    }
  }
  GENFAST_INLINE Floats at(int64_t n) const { return load(data + n * lane); }
  GENFAST_INLINE float number(int64_t n) const { return data[n * lane]; }
};

struct Rows {
  const PointwiseArg* args;
  PointwiseOut out;
  int64_t rows, first, last;
  GENFAST_INLINE float* row(int64_t m) const { return out.at ? out.at[m] : out.data + m * out.row; }
};

// Rows that follow one another without a gap are one long row.
template <int N>
GENFAST_INLINE Rows joined(Rows g) {
  bool gapless = !g.out.at && g.first == 0 && g.out.row % kRowPadding == 0 && g.out.row - g.last < kRowPadding;
  for (int i = 0; i < N; i++) gapless = gapless && !g.args[i].at && g.args[i].lane == 1 && g.args[i].row == g.out.row;
  if (gapless) {
    g.last = (g.rows - 1) * g.out.row + g.last;
    g.rows = 1;
  }
  return g;
}

// Stores f(n), the vector of columns n and on, for the whole row. Where nothing may be written after it, the last vector ends
// with the row and computes some numbers again; a row shorter than a vector is stored number by number.
template <class F>
GENFAST_INLINE void fill_row(const Rows& g, int64_t m, F f) {
  float* out = g.row(m);
  if (!g.out.at) {
    for (int64_t n = g.first; n < g.last; n += kL) store(out + n, f(n));
    return;
  }
  int64_t n = g.first;
  for (; n + kL <= g.last; n += kL) store(out + n, f(n));
  if (n == g.last) return;
  if (g.last - g.first >= kL) return store(out + g.last - kL, f(g.last - kL));
  const Floats few = f(n);
  for (int i = 0; n + i < g.last; i++) out[n + i] = few[i];
}

template <class F>
GENFAST_INLINE void unary(Rows g, F f) {
  g = joined<1>(g);
  for (int64_t m = 0; m < g.rows; m++) {
    const Row a(g.args[0], m);
    fill_row(g, m, [&](int64_t n) { return f(a.at(n)); });
  }
}

template <class F>
GENFAST_INLINE void binary(Rows g, F f) {
  g = joined<2>(g);
  for (int64_t m = 0; m < g.rows; m++) {
    const Row a(g.args[0], m), b(g.args[1], m);
    fill_row(g, m, [&](int64_t n) { return f(a.at(n), b.at(n)); });
  }
}

template <class F>
GENFAST_INLINE void ternary(Rows g, F f) {
  g = joined<3>(g);
  for (int64_t m = 0; m < g.rows; m++) {
    const Row a(g.args[0], m), b(g.args[1], m), c(g.args[2], m);
    fill_row(g, m, [&](int64_t n) { return f(a.at(n), b.at(n), c.at(n)); });
  }
}

// The C library's functions, number by number: rare in networks.
template <class F>
void number_by_number(const Rows& g, F f) {
  for (int64_t m = 0; m < g.rows; m++) {
    const Row a(g.args[0], m);
    for (int64_t n = g.first; n < g.last; n++) g.row(m)[n] = f(a.number(n));
  }
}

template <class F>
void pair_by_pair(const Rows& g, F f) {
  for (int64_t m = 0; m < g.rows; m++) {
    const Row a(g.args[0], m), b(g.args[1], m);
    for (int64_t n = g.first; n < g.last; n++) g.row(m)[n] = f(a.number(n), b.number(n));
  }
}

float softplus(float x) {
  const float size = x < 0 ? -x : x;
  return (x > 0 ? x : x != x ? x : 0.0f) + __builtin_log1pf(__builtin_expf(-size));
}

float remainder(float a, float b) {
  const float r = __builtin_fmodf(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

}  // namespace

void pointwise(PointwiseOp op, const PointwiseArg* args, const PointwiseOut& out, int64_t rows, int64_t first, int64_t last) {
  const Rows g = {args, out, rows, first, last};
  const Floats zero = {};
  switch (op) {
    case PointwiseOp::neg: return unary(g, [](Floats x) { return -x; });
    case PointwiseOp::abs: return unary(g, [](Floats x) { return (Floats)((Int32s)x & INT32_MAX); });
    case PointwiseOp::exp: return unary(g, [](Floats x) { return exp(x); });
    case PointwiseOp::sqrt: return unary(g, [](Floats x) { return square_root(x); });
    case PointwiseOp::rsqrt: return unary(g, [](Floats x) { return 1.0f / square_root(x); });
    case PointwiseOp::reciprocal: return unary(g, [](Floats x) { return 1.0f / x; });
    case PointwiseOp::tanh: return unary(g, [](Floats x) { return tanh(x); });
    case PointwiseOp::sigmoid: return unary(g, [](Floats x) { return sigmoid(x); });
    case PointwiseOp::relu: return unary(g, [=](Floats x) { return x < zero ? zero : x; });
    case PointwiseOp::elu: return unary(g, [=](Floats x) { return x > zero ? x : decay(x > zero ? zero : x).expm1; });
    case PointwiseOp::expm1: return unary(g, [](Floats x) { return expm1(x); });
    case PointwiseOp::sign: return unary(g, [=](Floats x) { return truth(x > zero) - truth(x < zero); });
    case PointwiseOp::floor: return unary(g, [](Floats x) { return each_lane(x, [](float v) { return __builtin_floorf(v); }); });
    case PointwiseOp::ceil: return unary(g, [](Floats x) { return each_lane(x, [](float v) { return __builtin_ceilf(v); }); });
    case PointwiseOp::trunc: return unary(g, [](Floats x) { return each_lane(x, [](float v) { return __builtin_truncf(v); }); });
    case PointwiseOp::round: return unary(g, [](Floats x) { return each_lane(x, [](float v) { return __builtin_rintf(v); }); });
    case PointwiseOp::logical_not: return unary(g, [=](Floats x) { return truth(x == zero); });
    case PointwiseOp::isnan: return unary(g, [](Floats x) { return truth(x != x); });
    case PointwiseOp::add: return binary(g, [](Floats a, Floats b) { return a + b; });
    case PointwiseOp::sub: return binary(g, [](Floats a, Floats b) { return a - b; });
    case PointwiseOp::mul: return binary(g, [](Floats a, Floats b) { return a * b; });
    case PointwiseOp::div: return binary(g, [](Floats a, Floats b) { return a / b; });
    case PointwiseOp::maximum: return binary(g, [](Floats a, Floats b) { return a != a ? a : a > b ? a : b; });
    case PointwiseOp::minimum: return binary(g, [](Floats a, Floats b) { return a != a ? a : a < b ? a : b; });
    case PointwiseOp::eq: return binary(g, [](Floats a, Floats b) { return truth(a == b); });
    case PointwiseOp::ne: return binary(g, [](Floats a, Floats b) { return truth(a != b); });
    case PointwiseOp::lt: return binary(g, [](Floats a, Floats b) { return truth(a < b); });
    case PointwiseOp::le: return binary(g, [](Floats a, Floats b) { return truth(a <= b); });
    case PointwiseOp::gt: return binary(g, [](Floats a, Floats b) { return truth(a > b); });
    case PointwiseOp::ge: return binary(g, [](Floats a, Floats b) { return truth(a >= b); });
    case PointwiseOp::where: return ternary(g, [=](Floats c, Floats x, Floats y) { return c != zero ? x : y; });
    case PointwiseOp::log: return number_by_number(g, [](float x) { return __builtin_logf(x); });
    case PointwiseOp::log1p: return number_by_number(g, [](float x) { return __builtin_log1pf(x); });
    case PointwiseOp::softplus: return number_by_number(g, softplus);
    case PointwiseOp::sin: return number_by_number(g, [](float x) { return __builtin_sinf(x); });
    case PointwiseOp::cos: return number_by_number(g, [](float x) { return __builtin_cosf(x); });
    case PointwiseOp::erf: return number_by_number(g, [](float x) { return __builtin_erff(x); });
    case PointwiseOp::pow: return pair_by_pair(g, [](float a, float b) { return __builtin_powf(a, b); });
    case PointwiseOp::remainder: return pair_by_pair(g, remainder);
  }
}

}  // namespace genfast::GENFAST_ISA
