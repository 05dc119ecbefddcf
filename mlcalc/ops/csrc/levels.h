// Which of the compiled variants of the kernels this processor runs.
#pragma once

#include <cstdlib>
#include <cstring>

namespace mlcalc::ops {

// 4, 3 or 1, as in x86-64-v4; MLCALC_LEVEL=v3 or v1 asks for less. The system's support is part of what is asked.
inline int level()
{
#if defined(__x86_64__)
  static const int found = [] {
    const char *const asked = std::getenv("MLCALC_LEVEL");
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
                    && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
                    && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
                    && __builtin_cpu_supports("avx512cd");
    if (!v3 || (asked && !std::strcmp(asked, "v1"))) return 1;
    return !v4 || (asked && !std::strcmp(asked, "v3")) ? 3 : 4;
  }();
  return found;
#else
  return 1;
#endif
}

}  // namespace mlcalc::ops
