// Vectors as the compiler knows them. One source is compiled once per instruction set (CMakeLists.txt), and everything
// lives in namespace genfast::GENFAST_ISA, so that no symbol of a wide build can be linked into a narrow one.
//
// No std or torch templates in any file that includes this: their weak symbols, built with AVX-512, could replace the
// generic ones and crash a plain CPU.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifndef GENFAST_ISA
#error "compile with -DGENFAST_ISA=generic|avx2|avx512"
#endif

#if defined(__AVX512F__)
#define GENFAST_VECTOR_BYTES 64
#define GENFAST_TILE_ROWS 14  // 14 x 2 accumulators + 2 weights + 1 broadcast fill the 32 registers
#define GENFAST_NARROW_TILE_ROWS 14
#define GENFAST_WIDE_TILE_ROWS 9  // three vectors wide
#elif defined(__AVX2__)
#define GENFAST_VECTOR_BYTES 32
#define GENFAST_TILE_ROWS 6  // 6 x 2 + 2 + 1 of 16 registers
#define GENFAST_NARROW_TILE_ROWS 10  // one vector wide
#define GENFAST_WIDE_TILE_ROWS 4  // three
#else
#define GENFAST_VECTOR_BYTES 16
#define GENFAST_TILE_ROWS 6
#define GENFAST_NARROW_TILE_ROWS 10
#define GENFAST_WIDE_TILE_ROWS 4
#endif

#define GENFAST_INLINE inline __attribute__((always_inline))

namespace genfast::GENFAST_ISA {

template <class T>
struct Vector;
template <>
struct Vector<float> {
  typedef float type __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
  typedef float unaligned __attribute__((vector_size(GENFAST_VECTOR_BYTES), aligned(4), may_alias));
};
template <>
struct Vector<double> {
  typedef double type __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
  typedef double unaligned __attribute__((vector_size(GENFAST_VECTOR_BYTES), aligned(8), may_alias));
};

template <class T>
constexpr int kLanes = GENFAST_VECTOR_BYTES / sizeof(T);

template <class T>
GENFAST_INLINE typename Vector<T>::type load(const T* p) {
  return *reinterpret_cast<const typename Vector<T>::unaligned*>(p);
}

template <class T>
GENFAST_INLINE void store(T* p, typename Vector<T>::type v) {
  *reinterpret_cast<typename Vector<T>::unaligned*>(p) = v;
}

}  // namespace genfast::GENFAST_ISA
