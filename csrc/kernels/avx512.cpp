#include "vec_avx512.h"

#include "table.inl.h"

namespace fedagg {

const Kernels kernels_avx512 = kernel_table<Avx512>("avx512");

}  // namespace fedagg
