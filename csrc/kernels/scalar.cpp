#include "vec_scalar.h"

#include "table.inl.h"

namespace fedagg {

const Kernels kernels_scalar = kernel_table<Scalar<float>>("scalar");

void f64_distill_rows_scalar(const DistillBatch<double>& batch, std::size_t begin, std::size_t end, double* scratch,
                             DistillSums& sums) {
    softmax_kl_rows<Scalar<double>>(batch, begin, end, scratch, sums);
}

}  // namespace fedagg
