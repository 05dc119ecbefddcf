// Calling an operator through torch's dispatcher, which finds the kernel, its derivative, or whoever traces it.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <utility>

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
