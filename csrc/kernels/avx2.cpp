#include "vec_avx2.h"

#include "table.inl.h"

namespace fedagg {

const Kernels kernels_avx2 = kernel_table<Avx2>("avx2");

}  // namespace fedagg
