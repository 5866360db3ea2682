// Chooses, for one batch, the compiled variant of the distillation loss: which terms, and block or row at a time.
#pragma once

#include "distill_block.inl.h"

namespace {

template <class V, class T>
void run_distill(const DistillBatch<typename V::Real>& batch, std::size_t begin, std::size_t end,
                 typename V::Real* scratch, DistillSums& sums) {
    if constexpr (V::has_blocks) {
        if (batch.classes <= V::most_block_classes) {
            if constexpr (V::has_half) {
                const std::size_t rest = (end - begin) % V::width;
                if (rest != 0 && rest <= V::Half::width) {
                    if (end - begin > rest) BlockKernel<V, T>(batch, scratch).run(begin, end - rest, sums);
                    return BlockKernel<typename V::Half, T>(batch, scratch).run(end - rest, end, sums);
                }
            }
            return BlockKernel<V, T>(batch, scratch).run(begin, end, sums);
        }
    }
    RowKernel<V, T>(batch, scratch).run(begin, end, sums);
}

template <class V, Divergence divergence>
void run_distill_kl(const DistillBatch<typename V::Real>& batch, std::size_t begin, std::size_t end,
                    typename V::Real* scratch, DistillSums& sums) {
    if (batch.labels == nullptr) {
        run_distill<V, Terms<false, divergence, false>>(batch, begin, end, scratch, sums);
    } else if (batch.student_temperature == 1) {
        run_distill<V, Terms<true, divergence, true>>(batch, begin, end, scratch, sums);
    } else {
        run_distill<V, Terms<true, divergence, false>>(batch, begin, end, scratch, sums);
    }
}

// f32_softmax_kl_rows__<isa> (and f64 for the scalar wrapper)
template <class V>
void softmax_kl_rows(const DistillBatch<typename V::Real>& batch, std::size_t begin, std::size_t end,
                     typename V::Real* scratch, DistillSums& sums) {
    switch (batch.divergence) {
        case Divergence::none: return run_distill<V, Terms<true, Divergence::none, false>>(batch, begin, end, scratch, sums);
        case Divergence::forward: return run_distill_kl<V, Divergence::forward>(batch, begin, end, scratch, sums);
        case Divergence::reverse: return run_distill_kl<V, Divergence::reverse>(batch, begin, end, scratch, sums);
    }
}

template <class V>
std::size_t distill_scratch(std::size_t classes) {
    if constexpr (V::has_blocks) {
        if (classes <= V::most_block_classes) return block_scratch<V>(classes);
    }
    return row_scratch(classes);
}

}  // namespace
