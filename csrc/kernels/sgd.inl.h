// Stochastic gradient descent over one flat buffer: parameters, gradient and velocity are read and written once.
#pragma once

#include "../fedagg/kernels.h"
#include "inline.h"

namespace {

using namespace fedagg;  // the contract's names; this file is only ever included by a kernel file

// A step as vectors: out of memory that the parameters might be in, for all the compiler knows.
template <class V, bool has_momentum, bool nesterov>
struct SgdVectors {
    using F = typename V::F;
    explicit SgdVectors(const SgdStep& step)
        : decay(V::set1(step.weight_decay)), momentum(V::set1(step.momentum)), rate(V::set1(-step.learning_rate)) {}

    FEDAGG_INLINE void update(float* parameters, const float* gradient, float* velocity, std::size_t count) const {
        const F zero = V::set1(0);
        const F p = V::load_first(parameters, count, zero);
        F g = V::fma(decay, p, V::load_first(gradient, count, zero));
        if constexpr (has_momentum) {
            const F v = V::fma(momentum, V::load_first(velocity, count, zero), g);
            V::store_first(velocity, v, count);
            g = nesterov ? V::fma(momentum, v, g) : v;
        }
        V::store_first(parameters, V::fma(rate, g, p), count);
    }
    F decay, momentum, rate;
};

template <class V, bool has_momentum, bool nesterov>
void sgd_all(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep& step) {
    constexpr std::size_t w = V::width;
    const SgdVectors<V, has_momentum, nesterov> vectors(step);
    std::size_t i = 0;
    for (; i + w <= count; i += w) {
        vectors.update(parameters + i, gradient + i, has_momentum ? velocity + i : nullptr, w);
    }
    if (i < count) vectors.update(parameters + i, gradient + i, has_momentum ? velocity + i : nullptr, count - i);
}

// f32_sgd_run__<isa>
template <class V>
void f32_sgd_run(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep& step) {
    if (step.momentum == 0) return sgd_all<V, false, false>(parameters, gradient, nullptr, count, step);
    if (step.nesterov) return sgd_all<V, true, true>(parameters, gradient, velocity, count, step);
    sgd_all<V, true, false>(parameters, gradient, velocity, count, step);
}

}  // namespace
