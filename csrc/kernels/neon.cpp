#include "vec_neon.h"

#include "table.inl.h"

namespace fedagg {

const Kernels kernels_neon = kernel_table<Neon>("neon");

}  // namespace fedagg
