// The distillation loss of V::width rows at a time, for few classes: the block is transposed in registers, so that every
// lane is a row and no sum crosses lanes. Same formulas as distill_row.inl.h.
#pragma once

#include "distill_row.inl.h"

namespace {

constexpr std::size_t most_block_classes = 48;
constexpr std::size_t most_aggregate_block_classes = 128;  // aggregation keeps fewer arrays in the cache

// Scratch of a block kernel: student, teacher and three arrays of exponentials, each [C][width], and a stage [width][C].
template <class V>
std::size_t block_scratch(std::size_t classes) {
    return 6 * V::width * classes;
}

// Rows begin .. begin + count of a matrix; lanes past the last row repeat it and are not live.
template <class V>
struct LaneRows {
    LaneRows(std::size_t begin, std::size_t end, std::size_t classes) : first(begin) {
        count = end - begin < V::width ? end - begin : V::width;
        for (std::size_t i = 0; i < V::width; ++i) {
            const std::size_t row = i < count ? i : count - 1;
            index[i] = begin + row;
            offset[i] = row * classes;
            live[i] = i < count ? 1.F : 0.F;
        }
    }
    void advance(std::size_t rows) {
        first += rows;
        for (std::size_t& i : index) i += rows;
    }
    std::size_t first, count;
    std::size_t index[V::width];
    std::size_t offset[V::width];
    float live[V::width];
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
typename V::F load_logits_block(const Logits& logits, const LaneRows<V>& rows, std::size_t classes, float* columns) {
    using F = typename V::F;
    const std::size_t start = rows.first * classes;
    if (logits.type == LogitType::f32) {
        return load_block<V>(static_cast<const float*>(logits.data) + start, rows.offset, classes, columns);
    }
    if (logits.type == LogitType::f16) {
        return load_block<V>(static_cast<const std::uint16_t*>(logits.data) + start, rows.offset, classes, columns);
    }
    load_block<V>(static_cast<const std::int8_t*>(logits.data) + start, rows.offset, classes, columns);
    float scale[V::width];
    for (std::size_t i = 0; i < V::width; ++i) scale[i] = logits.row_scale[rows.index[i]];
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
          k_ce_(V::set1(static_cast<float>(log2_of_e))),
          scale_student_(batch.student_temperature),
          scale_teacher_(batch.teacher_temperature),
          student_(scratch),
          teacher_(scratch + w * classes_),
          e_ce_(scratch + 2 * w * classes_),
          e_student_(scratch + 3 * w * classes_),
          e_teacher_(scratch + 4 * w * classes_),
          stage_(scratch + 5 * w * classes_) {}

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
    void blocks(std::size_t begin, std::size_t end, StreamWriter<V>* stream) {
        LaneRows<V> rows(begin, end, classes_);
        std::size_t since_drain = 0;
        for (std::size_t n = begin; n < end; n += w) {
            if (n == begin || end - n < w) {
                rows = LaneRows<V>(n, end, classes_);
            } else {
                rows.advance(w);
            }
            one_block(rows, stream);
            if (++since_drain == 4) {  // 48^(4 * 16) stays far below the largest double
                drain_logs();
                since_drain = 0;
            }
        }
        drain_logs();
    }

    void one_block(const LaneRows<V>& rows, StreamWriter<V>* stream) {
        max_student_ = load_block<V>(batch_.student + rows.first * classes_, rows.offset, classes_, student_);
        if constexpr (T::has_kl) max_teacher_ = load_logits_block<V>(batch_.teacher, rows, classes_, teacher_);
        exponentials();
        float weight[w];
        for (std::size_t i = 0; i < w; ++i) weight[i] = batch_.row_weight ? batch_.row_weight[rows.index[i]] : 1.F;
        add_ce(rows, weight);
        add_kl(rows, weight);
        const bool staged = stream != nullptr || rows.count < w;
        float* const out = batch_.gradient + rows.first * classes_;
        gradient(rows, weight, staged ? stage_ : out);
        if (stream) {
            stream->append(stage_, rows.count * classes_);
        } else if (staged) {
            __builtin_memcpy(out, stage_, rows.count * classes_ * sizeof(float));
        }
    }

    struct Sums {
        F student = V::set1(0), teacher = V::set1(0), divergence = V::set1(0);
    };

    void exponentials() {
        Sums sums;  // a local, so that it stays in registers
        Wide ce = V::set1_wide(0);
        std::size_t c = 0;
        for (; c + 4 <= classes_; c += 4) {
            const F e0 = column(c, sums), e1 = column(c + 1, sums), e2 = column(c + 2, sums), e3 = column(c + 3, sums);
            if constexpr (T::has_ce) ce = V::add(ce, V::wide((e0 + e1) + (e2 + e3)));
        }
        for (; c < classes_; ++c) {
            const F e = column(c, sums);
            if constexpr (T::has_ce) ce = V::add(ce, V::wide(e));
        }
        ce_sum_ = ce;
        sums_ = sums;
    }

    // One class of all rows; returns cross-entropy's exponentials.
    FEDAGG_INLINE F column(std::size_t c, Sums& sums) const {
        const F below_max = V::load(student_ + c * w) - max_student_;
        F e = V::set1(0);
        if constexpr (T::has_kl) {
            const F s = scale_student_(below_max);
            const F t = scale_teacher_(V::load(teacher_ + c * w) - max_teacher_);
            e = V::template exp2<T::student_digits>(s);
            const F p = V::template exp2<Digits::softened>(t);
            const F difference = T::is_reverse ? s - t : t - s;
            sums.student = sums.student + e;
            sums.teacher = sums.teacher + p;
            sums.divergence = V::add_product_unless_zero(T::is_reverse ? e : p, difference, sums.divergence);
            V::store(e_student_ + c * w, e);
            V::store(e_teacher_ + c * w, T::is_reverse ? difference : p);
        }
        if constexpr (T::has_own_ce_softmax) {
            e = V::exp2(below_max * k_ce_);
            V::store(e_ce_ + c * w, e);
        }
        return e;
    }

    // x where the lane is live, 0 elsewhere
    F live(const LaneRows<V>& rows, F x) const { return V::zero_where_zero(V::load(rows.live), x); }

    void add_ce(const LaneRows<V>& rows, const float* weight) {
        if constexpr (T::has_ce) {
            float labelled[w];
            for (std::size_t i = 0; i < w; ++i) {
                const std::int64_t label = weight[i] == 0 ? 0 : batch_.labels[rows.index[i]];
                labelled[i] = student_[static_cast<std::size_t>(label) * w + i];
            }
            const F y = V::load(labelled);
            if (batch_.row_weight) {
                float maximum[w];
                double sum[w];
                V::store(maximum, max_student_);
                V::store(sum, ce_sum_);
                for (std::size_t i = 0; i < rows.count; ++i) {
                    if (weight[i] == 0) continue;
                    const double margin = static_cast<double>(maximum[i]) - static_cast<double>(labelled[i]);
                    totals_.ce += static_cast<double>(weight[i]) * (margin + __builtin_log(sum[i]));
                }
                return;
            }
            ce_ = V::add(ce_, V::subtract(V::wide(live(rows, max_student_)), V::wide(live(rows, y))));
            ce_product_ = V::multiply(ce_product_, rows.count == w ? ce_sum_ : one_where_dead(rows, ce_sum_));
        }
    }

    void add_kl(const LaneRows<V>& rows, const float* weight) {
        if constexpr (T::has_kl) {
            const F linear = sums_.divergence / (T::is_reverse ? sums_.student : sums_.teacher);
            if constexpr (T::is_reverse) centre_divergence(linear);
            if (batch_.row_weight) {
                float part[w], student[w], teacher[w];
                V::store(part, linear);
                V::store(student, sums_.student);
                V::store(teacher, sums_.teacher);
                for (std::size_t i = 0; i < rows.count; ++i) {
                    if (weight[i] == 0) continue;
                    const double log_ratio = __builtin_log(static_cast<double>(student[i]) / static_cast<double>(teacher[i]));
                    totals_.kl += static_cast<double>(weight[i]) *
                                  (ln_of_2 * static_cast<double>(part[i]) + (T::is_reverse ? -log_ratio : log_ratio));
                }
                return;
            }
            kl_ = V::add(kl_, V::wide(live(rows, linear)));
            const F one = V::set1(1);
            student_product_ = V::multiply(student_product_, V::wide(live(rows, sums_.student - one) + one));
            teacher_product_ = V::multiply(teacher_product_, V::wide(live(rows, sums_.teacher - one) + one));
        }
    }

    // As in RowKernel: the mean's remainder is averaged again.
    void centre_divergence(F high) {
        F rest = V::set1(0);
        for (std::size_t c = 0; c < classes_; ++c) {
            const F e = V::load(e_student_ + c * w);
            rest = rest + V::zero_where_zero(e, e * (V::load(e_teacher_ + c * w) - high));
        }
        divergence_high_ = high;
        divergence_low_ = rest / sums_.student;
    }

    void gradient(const LaneRows<V>& rows, const float* weight, float* out) {
        const F row_weight = V::load(weight);
        const F kl_scale = row_weight * V::set1(static_cast<float>(batch_.kl_scale / batch_.student_temperature));
        const F ce_scale = row_weight * V::set1(static_cast<float>(batch_.ce_scale));
        const F a = T::has_ce ? ce_scale / V::narrow(ce_sum_) : ce_scale;
        const F b = kl_scale / sums_.student, z = kl_scale / sums_.teacher;
        const F b_ln2 = b * V::set1(static_cast<float>(ln_of_2));
        const bool may_skip = batch_.row_weight != nullptr;
        store_block<V>(out, rows.offset, classes_, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            F g = V::set1(0);
            if constexpr (T::has_kl) {
                const F student = V::load(e_student_ + c * w), other = V::load(e_teacher_ + c * w);
                if constexpr (T::is_reverse) {
                    g = V::zero_where_zero(student, student * (b_ln2 * (other - divergence_high_ - divergence_low_)));
                } else {
                    g = V::fma(b, student, -(z * other));
                }
            }
            if constexpr (T::has_ce) g = V::fma(a, V::load((T::has_own_ce_softmax ? e_ce_ : e_student_) + c * w), g);
            return may_skip ? V::zero_where_zero(row_weight, g) : g;
        });
        if constexpr (T::has_ce) {
            const float scale = static_cast<float>(batch_.ce_scale);
            for (std::size_t i = 0; i < rows.count; ++i) {
                if (weight[i] == 0) continue;
                out[rows.offset[i] + static_cast<std::size_t>(batch_.labels[rows.index[i]])] -= weight[i] * scale;
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
    const F k_ce_;
    const LogitScale<V, T> scale_student_, scale_teacher_;
    float *const student_, *const teacher_, *const e_ce_, *const e_student_, *const e_teacher_, *const stage_;

    F max_student_ = V::set1(0), max_teacher_ = V::set1(0);  // of the block at hand, like the next two lines
    Wide ce_sum_ = V::set1_wide(1);
    F divergence_high_ = V::set1(0), divergence_low_ = V::set1(0);
    Sums sums_;

    Wide ce_ = V::set1_wide(0), kl_ = V::set1_wide(0);  // over all blocks
    Wide ce_product_ = V::set1_wide(1), student_product_ = V::set1_wide(1), teacher_product_ = V::set1_wide(1);
    LossTotals totals_;
};

}  // namespace
