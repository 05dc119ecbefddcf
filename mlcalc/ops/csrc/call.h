// Operators in torch's dispatcher: registering them, and calling them through it, which finds the kernel, its derivative,
// or whoever traces it.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace mlcalc::ops {

// F is the signature of a kernel of the operator; one operator for each place this is written in.
#define MLCALC_CALL(NAME, F, ...)                                                                                \
  [&] {                                                                                                          \
    static const auto op =                                                                                       \
      c10::Dispatcher::singleton().findSchemaOrThrow("mlcalc::" NAME, "").typed<decltype(F)>();                  \
    return op.call(__VA_ARGS__);                                                                                 \
  }()

// Python may have registered plain operators under these names before the library comes, with LAMMPS: they stay then.
inline bool is_registered(const char *name)
{
  return c10::Dispatcher::singleton().findSchema({name, ""}).has_value();
}

}  // namespace mlcalc::ops

// Register operators, of which FIRST is one, if nobody has: statements on a torch::Library m that define them, give them
// kernels, and give them derivatives.
#define MLCALC_REGISTER(FIRST, DEFINITIONS, KERNELS, DERIVATIVES)                     \
  static const bool ours = !::mlcalc::ops::is_registered("mlcalc::" FIRST);           \
  TORCH_LIBRARY_FRAGMENT(mlcalc, m) { if (ours) { DEFINITIONS } }                     \
  TORCH_LIBRARY_IMPL(mlcalc, CPU, m) { if (ours) { KERNELS } }                        \
  TORCH_LIBRARY_IMPL(mlcalc, AutogradCPU, m) { if (ours) { DERIVATIVES } }
