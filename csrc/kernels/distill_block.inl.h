// The distillation loss of V::width rows at a time, for few classes: the block is transposed in registers, so that every
// lane is a row and no sum crosses lanes. Same formulas as distill_row.inl.h.
#pragma once

#include "distill_row.inl.h"

namespace {

constexpr std::size_t most_aggregate_block_classes = 128;  // aggregation keeps fewer arrays in the cache

// Scratch of a block kernel: three arrays of exponentials, one of rests and, for the block at hand and the next one, student
// and teacher, each [C][width], and a stage [width][C].
template <class V>
std::size_t block_scratch(std::size_t classes) {
    return 10 * V::width * classes;
}

// Rows first .. first + count of a matrix; lanes past the last row repeat it and are not live.
template <class V>
struct LaneRows {
    LaneRows() = default;
    LaneRows(std::size_t begin, std::size_t end, std::size_t classes) : first(begin) {
        count = end - begin < V::width ? end - begin : V::width;
        for (std::size_t i = 0; i < V::width; ++i) {
            offset[i] = row(i) * classes;
            live[i] = i < count ? 1.F : 0.F;
        }
    }
    std::size_t row(std::size_t lane) const { return lane < count ? lane : count - 1; }  // counted from `first`
    std::size_t index(std::size_t lane) const { return first + row(lane); }
    bool whole() const { return count == V::width; }
    std::size_t first = 0, count = 0;
    std::size_t offset[V::width] = {};
    float live[V::width] = {};
};

// [rows][C] at base + offset to [C][width]; returns the maximum of every row.
template <class V, class T>
typename V::F load_block(const T* base, const std::size_t* offset, std::size_t classes, float* columns) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    F maximum = V::set1(-__builtin_inff());
    if (classes < 4) {
        for (std::size_t c = 0; c < classes; ++c) {
            T column[w];
            for (std::size_t i = 0; i < w; ++i) column[i] = base[offset[i] + c];
            const F x = V::load(column);
            V::store(columns + c * w, x);
            maximum = V::max(x, maximum);
        }
        return maximum;
    }
    for (std::size_t c = 0;; c = c + 8 <= classes ? c + 4 : classes - 4) {  // the last group may overlap its predecessor
        F x[4];
        V::load_columns4(base + c, offset, x);
        for (std::size_t j = 0; j < 4; ++j) V::store(columns + (c + j) * w, x[j]);
        maximum = V::max(V::max(V::max(x[0], x[1]), V::max(x[2], x[3])), maximum);
        if (c + 4 == classes) return maximum;
    }
}

template <class V>
typename V::F load_logits_block(const Logits& logits, const LaneRows<V>& rows, std::size_t first, std::size_t classes,
                                float* columns) {
    using F = typename V::F;
    const std::size_t start = first * classes;
    if (logits.type == LogitType::f32) {
        return load_block<V>(static_cast<const float*>(logits.data) + start, rows.offset, classes, columns);
    }
    if (logits.type == LogitType::f16) {
        return load_block<V>(static_cast<const std::uint16_t*>(logits.data) + start, rows.offset, classes, columns);
    }
    load_block<V>(static_cast<const std::int8_t*>(logits.data) + start, rows.offset, classes, columns);
    float scale[V::width];
    for (std::size_t i = 0; i < V::width; ++i) scale[i] = logits.row_scale[first + rows.row(i)];
    const F scales = V::load(scale);
    F maximum = V::set1(-__builtin_inff());
    for (std::size_t c = 0; c < classes; ++c) {
        const F x = V::load(columns + c * V::width) * scales;
        V::store(columns + c * V::width, x);
        maximum = V::max(x, maximum);
    }
    return maximum;
}

// [C][width] to rows of C floats at base + offset; gradient(c) gives column c.
template <class V, class Column>
void store_block(float* base, const std::size_t* offset, std::size_t classes, const Column& column) {
    using F = typename V::F;
    if (classes < 4) {
        for (std::size_t c = 0; c < classes; ++c) {
            float x[V::width];
            V::store(x, column(c));
            for (std::size_t i = 0; i < V::width; ++i) base[offset[i] + c] = x[i];
        }
        return;
    }
    for (std::size_t c = 0;; c = c + 8 <= classes ? c + 4 : classes - 4) {
        F x[4] = {column(c), column(c + 1), column(c + 2), column(c + 3)};
        V::store_columns4(base + c, offset, x);
        if (c + 4 == classes) return;
    }
}

template <class V, class T>
class BlockKernel {
    using F = typename V::F;
    using Wide = typename V::Wide;
    static constexpr std::size_t w = V::width;

public:
    BlockKernel(const DistillBatch<float>& batch, float* scratch)
        : batch_(batch),
          classes_(batch.classes),
          scales_(batch),
          e_ce_(scratch),
          e_student_(scratch + w * classes_),
          e_teacher_(scratch + 2 * w * classes_),
          rest_(scratch + 3 * w * classes_),
          buffers_(scratch + 4 * w * classes_),
          stage_(scratch + 8 * w * classes_) {}

    void run(std::size_t begin, std::size_t end, DistillSums& sums) {
        if constexpr (V::has_streams) {
            if (batch_.larger_than_cache) {
                StreamWriter<V> out(batch_.gradient + begin * classes_);
                blocks(begin, end, &out);
                out.finish();
                return finish(sums);
            }
        }
        blocks(begin, end, nullptr);
        finish(sums);
    }

private:
    struct Block {
        F max_student, max_teacher;
        const float *student, *teacher;
        float labelled[w];  // the label's logit
    };
    struct Sums {
        Wide ce = V::set1_wide(1), student = V::set1_wide(1), teacher = V::set1_wide(1);
        F student_f = V::set1(1), teacher_f = V::set1(1);
        F mean = V::set1(0), mean_rest = V::set1(0);  // of the differences of logarithms
    };

    // The next block is loaded and transposed before this one is finished: it fills the time that sums and quotients take.
    void blocks(std::size_t begin, std::size_t end, StreamWriter<V>* stream) {
        if (begin == end) return;
        Block pair[2] = {};
        LaneRows<V> rows(begin, end, classes_), last;
        load(rows, begin, 0, pair[0]);
        // 48^64 and 128^32 stay far below the largest double
        const std::size_t most_undrained = (classes_ <= 48 ? 64 : 32) / w;
        std::size_t undrained = 0;
        for (std::size_t n = begin, i = 0; n < end; n += w, ++i) {
            const Block& block = pair[i % 2];
            const Sums sums = exponentials(block, stream == nullptr ? 0 : (n + 4 * w) * classes_);
            const std::size_t next = n + w, count = end - n < w ? end - n : w;
            if (next < end) {
                const bool partial = end - next < w;
                if (partial) last = LaneRows<V>(next, end, classes_);
                load(partial ? last : rows, next, (i + 1) % 2, pair[(i + 1) % 2]);
            }
            const bool simple = count == w && batch_.row_weight == nullptr;
            float* const stage = stage_;
            float* const out = batch_.gradient + n * classes_;
            if (simple) {
                finish_block<true>(rows, n, block, sums, stream ? stage : out);
            } else {
                finish_block<false>(i > 0 && count < w ? last : rows, n, block, sums, stage);
            }
            if (stream) {
                stream->append(stage, count * classes_);
            } else if (!simple) {
                __builtin_memcpy(out, stage, count * classes_ * sizeof(float));
            }
            if (++undrained == most_undrained) {
                drain_logs();
                undrained = 0;
            }
        }
        drain_logs();
    }

    FEDAGG_INLINE void load(const LaneRows<V>& rows, std::size_t first, std::size_t buffer, Block& block) {
        float* const student = buffers_ + 2 * buffer * w * classes_;
        float* const teacher = student + w * classes_;
        block.student = student;
        block.teacher = teacher;
        block.max_student = load_block<V>(batch_.student + first * classes_, rows.offset, classes_, student);
        if constexpr (T::has_kl) block.max_teacher = load_logits_block<V>(batch_.teacher, rows, first, classes_, teacher);
        if constexpr (T::has_ce) {
            const std::int64_t* const labels = batch_.labels + first;
            if (rows.whole() && batch_.row_weight == nullptr) {
                for (std::size_t i = 0; i < w; ++i) block.labelled[i] = student[static_cast<std::size_t>(labels[i]) * w + i];
                return;
            }
            for (std::size_t i = 0; i < w; ++i) {
                const std::size_t n = first + rows.row(i);
                const bool masked = batch_.row_weight != nullptr && batch_.row_weight[n] == 0;
                block.labelled[i] = student[static_cast<std::size_t>(masked ? 0 : batch_.labels[n]) * w + i];
            }
        }
    }

    // Prefetches, a column at a time, the w * C logits from `ahead` on, unless that is 0; past the end it does no harm.
    FEDAGG_INLINE Sums exponentials(const Block& block, std::size_t ahead) const {
        const LogitScales<V, T> scales = scales_;  // a local of the loop
        const Elements<V, T> elements{block.student, block.teacher, block.max_student, block.max_teacher, scales,
                                      {e_ce_, e_student_, e_teacher_, rest_}};
        const auto prefetch = [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            if (V::has_streams && ahead != 0) {
                V::prefetch(batch_.student + ahead + c);
                if constexpr (T::has_kl) V::prefetch(static_cast<const float*>(batch_.teacher.data) + ahead + c);
            }
        };
        RowSums<V, T> parts;
        const std::size_t end = classes_ * w;
        std::size_t c = 0;
        for (; c + 4 * w <= end; c += 4 * w) {
            for (std::size_t i = 0; i < 4; ++i) prefetch(c + i * w);
            parts.add_four(elements, c);
        }
        if (V::in_step && c + 2 * w <= end) {
            for (std::size_t i = 0; i < 2; ++i) prefetch(c + i * w);
            parts.add_two(elements, c);
            c += 2 * w;
        }
        for (; c < end; c += w) {
            prefetch(c);
            parts.add(elements(c));
        }
        Sums sums;
        if constexpr (T::has_ce) sums.ce = parts.ce.wide();
        if constexpr (T::has_kl) {
            sums.student = parts.student.wide();
            sums.teacher = parts.teacher.wide();
            sums.student_f = parts.student.narrow();
            sums.teacher_f = parts.teacher.narrow();
            const F divergence = parts.divergence.sum + finite_rest(parts.divergence.sum, parts.divergence.rest);
            sums.mean = divergence / (T::is_reverse ? sums.student_f : sums.teacher_f);
            if constexpr (T::is_reverse) centre_divergence(sums);
        }
        return sums;
    }

    // 0 where the sum is infinite and its rest therefore NaN
    static FEDAGG_INLINE F finite_rest(F sum, F rest) { return V::zero_below(-sum, V::set1(-3.4e38F), rest); }

    // As in RowKernel: the mean's remainder is averaged again.
    void centre_divergence(Sums& sums) const {
        const F high = V::round(sums.mean);
        Compensated<V> rest(0);
        for (std::size_t c = 0; c < classes_; ++c) {
            const F e = V::load(e_student_ + c * w);
            const F log_ratio = (V::load(e_teacher_ + c * w) - high) + V::load(rest_ + c * w);
            rest.add(V::zero_where_improbable(e, e * log_ratio));
        }
        sums.mean = high;
        sums.mean_rest = rest.narrow() / sums.student_f;
    }

    // Loss and gradient of a block. `simple`: all lanes are rows and all rows weigh 1.
    template <bool simple>
    void finish_block(const LaneRows<V>& rows, std::size_t first, const Block& block, Sums sums, float* out) {
        float weights[w] = {};
        if constexpr (!simple) {
            for (std::size_t i = 0; i < w; ++i) weights[i] = batch_.row_weight ? batch_.row_weight[first + rows.row(i)] : 1.F;
        }
        const float* const weight = simple ? nullptr : weights;
        add_ce<simple>(rows, block, sums, weight);
        add_kl<simple>(rows, sums, weight);
        gradient<simple>(rows, first, sums, weight, out);
    }

    // x where the lane is live, 0 elsewhere
    template <bool simple>
    F live(const LaneRows<V>& rows, F x) const {
        return simple ? x : V::zero_where_zero(V::load(rows.live), x);
    }

    template <bool simple>
    void add_ce(const LaneRows<V>& rows, const Block& block, const Sums& sums, const float* weight) {
        if constexpr (T::has_ce) {
            if (!simple && batch_.row_weight) {
                float maximum[w];
                double sum[w];
                V::store(maximum, block.max_student);
                V::store(sum, sums.ce);
                for (std::size_t i = 0; i < rows.count; ++i) {
                    if (weight[i] == 0) continue;
                    const double margin = static_cast<double>(maximum[i]) - static_cast<double>(block.labelled[i]);
                    totals_.ce += static_cast<double>(weight[i]) * (margin + __builtin_log(sum[i]));
                }
                return;
            }
            const F maximum = live<simple>(rows, block.max_student), y = live<simple>(rows, V::load(block.labelled));
            ce_ = V::add(ce_, V::subtract(V::wide(maximum), V::wide(y)));
            ce_product_ = V::multiply(ce_product_, simple ? sums.ce : one_where_dead(rows, sums.ce));
        }
    }

    template <bool simple>
    void add_kl(const LaneRows<V>& rows, Sums& sums, const float* weight) {
        if constexpr (T::has_kl) {
            if (!simple && batch_.row_weight) {
                float part[w], part_rest[w] = {};
                if constexpr (T::is_reverse) V::store(part_rest, finite_rest(sums.mean, sums.mean_rest));
                double student[w], teacher[w];
                V::store(part, sums.mean);
                V::store(student, sums.student);
                V::store(teacher, sums.teacher);
                for (std::size_t i = 0; i < rows.count; ++i) {
                    if (weight[i] == 0) continue;
                    const double log_ratio = __builtin_log(student[i] / teacher[i]);
                    totals_.kl += static_cast<double>(weight[i]) *
                                  (ln_of_2 * (static_cast<double>(part[i]) + static_cast<double>(part_rest[i])) +
                                   (T::is_reverse ? -log_ratio : log_ratio));
                }
                return;
            }
            kl_ = V::add(kl_, V::wide(live<simple>(rows, sums.mean)));
            if constexpr (T::is_reverse) kl_ = V::add(kl_, V::wide(live<simple>(rows, finite_rest(sums.mean, sums.mean_rest))));
            student_product_ = V::multiply(student_product_, simple ? sums.student : one_where_dead(rows, sums.student));
            teacher_product_ = V::multiply(teacher_product_, simple ? sums.teacher : one_where_dead(rows, sums.teacher));
        }
    }

    template <bool simple>
    void gradient(const LaneRows<V>& rows, std::size_t first, const Sums& sums, const float* weight, float* out) {
        const float ce_scale_of_all = static_cast<float>(batch_.ce_scale);
        F kl_scale = V::set1(static_cast<float>(batch_.kl_scale / batch_.student_temperature));
        F ce_scale = V::set1(ce_scale_of_all);
        F row_weight = kl_scale;
        if constexpr (!simple) {
            row_weight = V::load(weight);
            kl_scale = row_weight * kl_scale;
            ce_scale = row_weight * ce_scale;
        }
        const F a = T::has_ce ? ce_scale / V::narrow(sums.ce) : ce_scale;
        const F b = kl_scale / sums.student_f, z = kl_scale / sums.teacher_f;
        F b_ln2 = b * V::set1(static_cast<float>(ln_of_2));
        // NaN for the whole row, its classes of probability 0 included, where the divergence or the teacher is not finite
        if constexpr (T::is_reverse) b_ln2 = b_ln2 + ((sums.mean - sums.mean) + (z - z));
        const bool may_skip = !simple && batch_.row_weight != nullptr;
        const float *const e_ce = T::has_own_ce_softmax ? e_ce_ : e_student_, *const e_student = e_student_,
                    *const e_teacher = e_teacher_, *const rest = rest_;
        store_block<V>(out, rows.offset, classes_, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            F g = V::set1(0);
            if constexpr (T::has_kl) {
                const F student = V::load(e_student + c * w), other = V::load(e_teacher + c * w);
                if constexpr (T::is_reverse) {
                    const F log_ratio = (other - sums.mean) + (V::load(rest + c * w) - sums.mean_rest);
                    g = student * (b_ln2 * V::zero_where_improbable(student, log_ratio));
                } else {
                    g = V::fma(b, student, -(z * other));
                }
            }
            if constexpr (T::has_ce) g = V::fma(a, V::load(e_ce + c * w), g);
            return may_skip ? V::zero_where_zero(row_weight, g) : g;
        });
        if constexpr (T::has_ce) {
            const std::int64_t* const labels = batch_.labels + first;
            if constexpr (simple) {
                for (std::size_t i = 0; i < w; ++i) out[i * classes_ + static_cast<std::size_t>(labels[i])] -= ce_scale_of_all;
            } else {
                for (std::size_t i = 0; i < rows.count; ++i) {
                    if (weight[i] != 0) out[i * classes_ + static_cast<std::size_t>(labels[i])] -= weight[i] * ce_scale_of_all;
                }
            }
        }
    }

    void drain_logs() {
        if constexpr (T::has_ce) drain(totals_.ce_log, ce_product_);
        if constexpr (T::has_kl) {
            drain(totals_.student_log, student_product_);
            drain(totals_.teacher_log, teacher_product_);
        }
    }
    static void drain(LogSum& log_sum, Wide& product) {
        log_sum.add(V::product_wide(product));
        product = V::set1_wide(1);
    }

    static Wide one_where_dead(const LaneRows<V>& rows, Wide x) {
        const Wide live = V::wide(V::load(rows.live));
        return V::add(V::multiply(live, V::subtract(x, V::set1_wide(1))), V::set1_wide(1));
    }

    void finish(DistillSums& sums) {
        totals_.ce += V::sum_wide(ce_);
        totals_.kl += ln_of_2 * V::sum_wide(kl_);
        totals_.template add_to<T>(sums);
    }

    const DistillBatch<float>& batch_;
    const std::size_t classes_;
    const LogitScales<V, T> scales_;
    float *const e_ce_, *const e_student_, *const e_teacher_, *const rest_, *const buffers_, *const stage_;

    Wide ce_ = V::set1_wide(0), kl_ = V::set1_wide(0);  // over all blocks
    Wide ce_product_ = V::set1_wide(1), student_product_ = V::set1_wide(1), teacher_product_ = V::set1_wide(1);
    LossTotals totals_;
};

}  // namespace
