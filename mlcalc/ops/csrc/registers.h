// Vector registers, and which of the compiled variants of a kernel this processor runs.
#pragma once

#include <cstdint>

#include "levels.h"

namespace mlcalc::ops {

// Numbers that fill so many bytes; as they lie in memory of any alignment.
template <typename T, int B>
struct Vector {
  typedef T type __attribute__((vector_size(B)));
  typedef T anywhere __attribute__((vector_size(B), aligned(sizeof(T)), may_alias));
};
template <typename T>
struct Vector<T, 0> {
  typedef T type, anywhere;
};

// The widest registers (64, 32 or 16 bytes) of this processor that rows of so many bytes fill; 0 if there are none.
inline int widest(int64_t bytes)
{
  if (level() == 4 && bytes % 64 == 0) return 64;
  if (level() >= 3 && bytes % 32 == 0) return 32;
  return bytes % 16 == 0 ? 16 : 0;
}

}  // namespace mlcalc::ops

// Returns F(true) of the widest variant that fits, else F(false), which takes numbers one by one.
#if defined(__x86_64__)
#define MLCALC_WIDEST(BYTES_OF_ROW, F)                      \
  switch (::mlcalc::ops::widest(BYTES_OF_ROW)) {            \
    case 64: return v4::F(true);                            \
    case 32: return v3::F(true);                            \
    case 16: return v1::F(true);                            \
    default: return v1::F(false);                           \
  }
#else
#define MLCALC_WIDEST(BYTES_OF_ROW, F) return v1::F(::mlcalc::ops::widest(BYTES_OF_ROW) == 16);
#endif
