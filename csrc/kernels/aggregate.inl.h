// Aggregation of a block of rows over K teachers. The caller (aggregate.cpp) chooses blocks whose output stays in the
// first-level cache, so that adding one teacher after the other costs no memory traffic, and normalises the weights.
#pragma once

#include "distill_block.inl.h"
#include "exact_log_mean.h"
#include "log.h"

namespace {

// Below it a mean probability is computed again in double: every teacher's share below 2^-126 was taken as 0, and of a sum
// of 2^-100 all of them together are a rounding.
constexpr float least_of_a_sum = 0x1p-100F;

inline float weight_of(const AggregateBlock& block, std::size_t k, std::size_t row, std::size_t begin, std::size_t end) {
    return block.same_weight_in_every_row ? block.weight[k] : block.weight[k * (end - begin) + row - begin];
}

// out += weight * z over a run of logits
template <class V, class T>
void add_run(const T* z, float weight, std::size_t size, float* out) {
    constexpr std::size_t w = V::width;
    const auto wk = V::set1(weight);
    std::size_t i = 0;
    for (; i + w <= size; i += w) V::store(out + i, V::fma(wk, V::load(z + i), V::load(out + i)));
    if (i < size) {
        const std::size_t n = size - i;
        const auto zero = V::set1(0);
        V::store_first(out + i, V::fma(wk, V::load_first(z + i, n, zero), V::load_first(out + i, n, zero)), n);
    }
}

// Any mixture of storage types, weights that differ from row to row: one teacher's row after the other.
template <class V>
void mean_logits_row(const AggregateBlock& block, std::size_t n, std::size_t begin, std::size_t end) {
    const std::size_t classes = block.classes, at = n * classes;
    float* const out = block.out + at;
    __builtin_memset(out, 0, classes * sizeof(float));
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const float weight = weight_of(block, k, n, begin, end);
        const Logits& z = block.teachers[k];
        if (weight == 0) continue;
        switch (z.type) {
            case LogitType::f16: add_run<V>(static_cast<const std::uint16_t*>(z.data) + at, weight, classes, out); break;
            case LogitType::i8:
                add_run<V>(static_cast<const std::int8_t*>(z.data) + at, weight * z.row_scale[n], classes, out);
                break;
            default: add_run<V>(static_cast<const float*>(z.data) + at, weight, classes, out);
        }
    }
}

// K teachers are K streams that one load instruction reads in turn, each but a few bytes at a time. The processor's own
// prefetching follows that badly where pages are small: from memory, int8 and f16 take half the time with this. Not for
// float32: nothing is won there on small pages, and where the system gives large ones it costs a sixth.
template <class T>
FEDAGG_INLINE void prefetch_narrow(const T* z, std::size_t size) {
    constexpr std::size_t line = 64, ahead = 1024;
    if constexpr (sizeof(T) < sizeof(float)) {
        const auto* const from = reinterpret_cast<const char*>(z) + ahead;
        for (std::size_t i = 0; i < size * sizeof(T); i += line) __builtin_prefetch(from + i);
    }
}

// out[at[j] ...] = sum_k weight[k] * teacher_k[at[j] ...], `vectors` vectors that stay in registers over all teachers.
template <class V, class T, std::size_t vectors>
FEDAGG_INLINE void mean_vectors(const AggregateBlock& block, const std::size_t* at, const float* weight) {
    using F = typename V::F;
    F x[vectors];
    for (std::size_t j = 0; j < vectors; ++j) x[j] = V::set1(0);
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const T* const z = static_cast<const T*>(block.teachers[k].data);
        const F wk = V::set1(weight[k]);
        prefetch_narrow(z + at[0], vectors * V::width);
        for (std::size_t j = 0; j < vectors; ++j) x[j] = V::fma(wk, V::load(z + at[j]), x[j]);
    }
    for (std::size_t j = 0; j < vectors; ++j) V::store(block.out + at[j], x[j]);
}

// Elements [from, to), all teachers stored as T.
template <class V, class T>
void mean_run(const AggregateBlock& block, std::size_t from, std::size_t to, const float* weight) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    std::size_t i = from;
    for (; i + 4 * w <= to; i += 4 * w) {
        const std::size_t at[] = {i, i + w, i + 2 * w, i + 3 * w};
        mean_vectors<V, T, 4>(block, at, weight);
    }
    if (i == to) return;
    if (to - from >= w) {  // the last vector may overlap its predecessor
        const std::size_t last = to - w;
        const auto start = [&](std::size_t j) { return i + j * w < last ? i + j * w : last; };
        const std::size_t at[] = {start(0), start(1), start(2), start(3)};
        switch ((to - i + w - 1) / w) {
            case 1: return mean_vectors<V, T, 1>(block, at, weight);
            case 2: return mean_vectors<V, T, 2>(block, at, weight);
            case 3: return mean_vectors<V, T, 3>(block, at, weight);
            default: return mean_vectors<V, T, 4>(block, at, weight);
        }
    }
    F x = V::set1(0);
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const T* const z = static_cast<const T*>(block.teachers[k].data);
        x = V::fma(V::set1(weight[k]), V::load_first(z + i, to - i, x), x);
    }
    V::store_first(block.out + i, x, to - i);
}

template <class V>
void mean_run_of(LogitType type, const AggregateBlock& block, std::size_t from, std::size_t to, const float* weight) {
    switch (type) {
        case LogitType::f16: return mean_run<V, std::uint16_t>(block, from, to, weight);
        case LogitType::i8: return mean_run<V, std::int8_t>(block, from, to, weight);
        default: return mean_run<V, float>(block, from, to, weight);
    }
}

// mean_logits_rows__<isa>
template <class V>
void mean_logits_rows(const AggregateBlock& block, std::size_t begin, std::size_t end, float* scratch) {
    const LogitType type = block.teachers[0].type;
    const std::size_t teachers = block.teacher_count, classes = block.classes;
    bool one_type = true;
    for (std::size_t k = 0; k < teachers; ++k) one_type = one_type && block.teachers[k].type == type;
    float* const weight = scratch;
    // the weights of row n, times its scales; false when a teacher must be left out, whatever it holds
    const auto gather = [&](std::size_t n) {
        bool all = true;
        for (std::size_t k = 0; k < teachers; ++k) {
            weight[k] = weight_of(block, k, n, begin, end);
            all = all && weight[k] != 0;
            if (type == LogitType::i8) weight[k] *= block.teachers[k].row_scale[n];
        }
        return all;
    };
    if (one_type && type != LogitType::i8 && block.same_weight_in_every_row && begin < end && gather(begin)) {
        return mean_run_of<V>(type, block, begin * classes, end * classes, weight);
    }
    for (std::size_t n = begin; n < end; ++n) {
        if (one_type && gather(n)) {
            mean_run_of<V>(type, block, n * classes, (n + 1) * classes, weight);
        } else {
            mean_logits_row<V>(block, n, begin, end);
        }
    }
}

template <class V>
void probabilities_row(const AggregateBlock& block, std::size_t n, std::size_t begin, std::size_t end, float* scratch) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const std::size_t classes = block.classes;
    float *const sum = scratch, *const e = scratch + padded(classes), *const buffer = scratch + 2 * padded(classes);
    const F zero = V::set1(0), lowest = V::set1(-__builtin_inff()), k_log2 = V::set1(static_cast<float>(log2_of_e));
    for (std::size_t c = 0; c < classes; c += w) V::store(sum + c, zero);
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const float weight = weight_of(block, k, n, begin, end);
        if (weight == 0) continue;
        const float* const z = teacher_row<V>(block.teachers[k], n, classes, buffer);
        const F maximum = V::set1(row_maximum<V>(z, classes));
        F total = zero;
        for (std::size_t c = 0; c < classes; c += w) {
            const F x = c + w <= classes ? V::load(z + c) : V::load_first(z + c, classes - c, lowest);
            const F p = V::exp2((x - maximum) * k_log2);
            total = total + p;
            V::store(e + c, p);
        }
        const F factor = V::set1(weight / V::sum(total));
        for (std::size_t c = 0; c < classes; c += w) V::store(sum + c, V::fma(factor, V::load(e + c), V::load(sum + c)));
    }
    float* const out = block.out + n * classes;
    F deepest = V::set1(-1);
    for (std::size_t c = 0; c < classes; c += w) {
        const std::size_t count = classes - c < w ? classes - c : w;
        const F p = V::load_first(sum + c, count, V::set1(1));
        deepest = V::max(-p, deepest);
        V::store_first(out + c, log_normal<V>(p), count);
    }
    if (V::largest(deepest) > -least_of_a_sum) exact_log_mean_row(block, n, begin, end, scratch);
}

// body(0) to body(classes - 1), two a turn
template <class Body>
FEDAGG_INLINE void each_column(std::size_t classes, const Body& body) {
    std::size_t c = 0;
    for (; c + 2 <= classes; c += 2) {
        body(c);
        body(c + 1);
    }
    if (c < classes) body(c);
}

template <class V>
void probabilities_block(const AggregateBlock& block, const LaneRows<V>& rows, std::size_t begin, std::size_t end,
                         float* scratch) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const std::size_t classes = block.classes;
    float *const sum = scratch, *const z = scratch + w * classes, *const stage = scratch + 2 * w * classes;
    const F zero = V::set1(0), k_log2 = V::set1(static_cast<float>(log2_of_e));
    for (std::size_t c = 0; c < classes; ++c) V::store(sum + c * w, zero);
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        float weight[w];
        for (std::size_t i = 0; i < w; ++i) weight[i] = weight_of(block, k, rows.index(i), begin, end);
        const F weights = V::load(weight);
        const F maximum = load_logits_block<V>(block.teachers[k], rows, rows.first, classes, z);
        F total = zero;
        each_column(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            const F p = V::exp2((V::load(z + c * w) - maximum) * k_log2);
            total = total + p;
            V::store(z + c * w, p);
        });
        const F factor = weights / total;
        each_column(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            const F p = V::zero_where_zero(weights, factor * V::load(z + c * w));
            V::store(sum + c * w, V::load(sum + c * w) + p);
        });
    }
    F deepest = V::set1(-1);
    for (std::size_t c = 0; c < classes; ++c) deepest = V::max(-V::load(sum + c * w), deepest);
    float deepest_of[w];
    V::store(deepest_of, deepest);
    const bool whole = rows.count == w;
    float* const out = block.out + rows.first * classes;
    store_block<V>(whole ? out : stage, rows.offset, classes, [&](std::size_t c) { return log_normal<V>(V::load(sum + c * w)); });
    if (!whole) __builtin_memcpy(out, stage, rows.count * classes * sizeof(float));
    for (std::size_t i = 0; i < rows.count; ++i) {
        if (deepest_of[i] > -least_of_a_sum) exact_log_mean_row(block, rows.index(i), begin, end, scratch);
    }
}

// mean_probabilities_rows__<isa>
template <class V>
void mean_probabilities_rows(const AggregateBlock& block, std::size_t begin, std::size_t end, float* scratch) {
    if constexpr (V::has_blocks) {
        if (block.classes <= most_aggregate_block_classes) {
            for (std::size_t n = begin; n < end; n += V::width) {
                probabilities_block<V>(block, LaneRows<V>(n, end, block.classes), begin, end, scratch);
            }
            return;
        }
    }
    for (std::size_t n = begin; n < end; ++n) probabilities_row<V>(block, n, begin, end, scratch);
}

}  // namespace
