// Which of the compiled variants of the kernels this processor runs.
#pragma once

#include "convolution.h"

namespace mlcalc::ops {

template <typename T>
const Kernels<T> &best()
{
#if defined(__x86_64__)
  static const Kernels<T> chosen = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
                                       && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
                                     ? v4::kernels<T>()
                                   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                                     ? v3::kernels<T>()
                                     : v1::kernels<T>();
#else
  static const Kernels<T> chosen = v1::kernels<T>();
#endif
  return chosen;
}

}  // namespace mlcalc::ops
