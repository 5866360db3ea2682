// The distillation loss of one row at a time, vectorised along its classes: any C, any instruction set, any Real.
// Numerics: docs/kernels.md. Pass 1 finds both maxima, pass 2 the exponentials and their sums, pass 3 the gradient.
#pragma once

#include "../fedagg/kernels.h"
#include "exp2.h"
#include "inline.h"
#include "log_sum.h"
#include "output.h"

namespace {

using namespace fedagg;  // the contract's names; this file is only ever included by a kernel file

constexpr double log2_of_e = 1.4426950408889634;
constexpr double ln_of_2 = 0.6931471805599453;

// Which terms a kernel computes; known when it is compiled.
// shared_softmax: the student's temperature is 1, so cross-entropy and divergence need the same exponentials.
template <bool ce, Divergence divergence, bool shared_softmax>
struct Terms {
    static constexpr bool has_ce = ce;
    static constexpr bool has_kl = divergence != Divergence::none;
    static constexpr bool is_reverse = divergence == Divergence::reverse;
    static constexpr bool has_own_ce_softmax = ce && !(has_kl && shared_softmax);
    static constexpr Digits student_digits = ce && !has_own_ce_softmax ? Digits::all : Digits::softened;
};

// log2(e) / temperature as a factor for logits. The reverse divergence multiplies differences of logarithms by
// probabilities of another distribution, which forgives nothing, so there the factor has twice the digits.
template <class V, class T>
struct LogitScale {
    using Real = typename V::Real;
    using F = typename V::F;
    explicit LogitScale(double temperature) {
        const double factor = log2_of_e / temperature;
        high = V::set1(static_cast<Real>(factor));
        low = V::set1(static_cast<Real>(factor - static_cast<double>(static_cast<Real>(factor))));
    }
    FEDAGG_INLINE F operator()(F below_max) const {
        if constexpr (!T::is_reverse) return below_max * high;
        // the correction of -inf would be NaN; max keeps a NaN in its second argument
        const F finite = V::max(V::set1(static_cast<Real>(-3e38)), below_max);
        return V::fma(below_max, high, finite * low);
    }
    F high, low;
};

struct LossTotals {
    double ce = 0, kl = 0;              // sums of the parts that are linear in the row
    LogSum ce_log, student_log, teacher_log;

    template <class T>
    void add_to(DistillSums& sums) {
        if (T::has_ce) sums.ce += ce + ce_log.total();
        if (T::has_kl) {
            const double log_ratio = student_log.total() - teacher_log.total();
            sums.kl += kl + (T::is_reverse ? -log_ratio : log_ratio);
        }
    }
};

template <class V>
FEDAGG_INLINE typename V::Real row_maximum(const typename V::Real* x, std::size_t count) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F lowest = V::set1(-__builtin_inff());
    F m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
    std::size_t c = 0;
    for (; c + 4 * w <= count; c += 4 * w) {
        m0 = V::max(V::load(x + c), m0);
        m1 = V::max(V::load(x + c + w), m1);
        m2 = V::max(V::load(x + c + 2 * w), m2);
        m3 = V::max(V::load(x + c + 3 * w), m3);
    }
    for (; c + w <= count; c += w) m0 = V::max(V::load(x + c), m0);
    if (c < count) m1 = V::max(V::load_first(x + c, count - c, lowest), m1);
    return V::largest(V::max(V::max(m0, m1), V::max(m2, m3)));
}

// The teacher's row as Real: in place where it is stored so, else converted into `buffer` (padded to whole vectors).
template <class V>
const typename V::Real* teacher_row(const Logits& teacher, std::size_t row, std::size_t count,
                                    typename V::Real* buffer) {
    using Real = typename V::Real;
    if constexpr (sizeof(Real) == sizeof(double)) {
        return static_cast<const Real*>(teacher.data) + row * count;
    } else {
        const auto convert = [&](const auto* x, Real scale) {
            const auto scales = V::set1(scale);
            std::size_t c = 0;
            for (; c + V::width <= count; c += V::width) V::store(buffer + c, V::load(x + c) * scales);
            if (c < count) V::store(buffer + c, V::load_first(x + c, count - c, scales) * scales);
            return buffer;
        };
        switch (teacher.type) {
            case LogitType::f16: return convert(static_cast<const std::uint16_t*>(teacher.data) + row * count, 1.F);
            case LogitType::i8:
                return convert(static_cast<const std::int8_t*>(teacher.data) + row * count, teacher.row_scale[row]);
            default: return static_cast<const Real*>(teacher.data) + row * count;
        }
    }
}

// Scratch of a row kernel: three arrays of exponentials, the converted teacher, a stage for streamed results.
constexpr std::size_t stage_size = 1024;
inline std::size_t padded(std::size_t classes) { return (classes + 31) / 32 * 32; }
inline std::size_t row_scratch(std::size_t classes) { return 4 * padded(classes) + stage_size; }

template <class V, class T>
class RowKernel {
    using Real = typename V::Real;
    using F = typename V::F;
    using Wide = typename V::Wide;
    static constexpr std::size_t w = V::width;

public:
    RowKernel(const DistillBatch<Real>& batch, Real* scratch)
        : batch_(batch),
          classes_(batch.classes),
          k_ce_(V::set1(static_cast<Real>(log2_of_e))),
          scale_student_(batch.student_temperature),
          scale_teacher_(batch.teacher_temperature),
          e_ce_(scratch),
          e_student_(scratch + padded(classes_)),
          e_teacher_(scratch + 2 * padded(classes_)),
          teacher_(scratch + 3 * padded(classes_)),
          stage_(scratch + 4 * padded(classes_)) {}

    void run(std::size_t begin, std::size_t end, DistillSums& sums) {
        LossTotals totals;
        if constexpr (V::has_streams) {
            if (batch_.larger_than_cache) {
                StreamWriter<V> out(batch_.gradient + begin * classes_);
                for (std::size_t n = begin; n < end; ++n) one_row(n, totals, &out);
                out.finish();
                return totals.template add_to<T>(sums);
            }
        }
        for (std::size_t n = begin; n < end; ++n) one_row(n, totals, static_cast<StreamWriter<V>*>(nullptr));
        totals.template add_to<T>(sums);
    }

private:
    void one_row(std::size_t n, LossTotals& totals, StreamWriter<V>* stream) {
        const Real weight = batch_.row_weight ? static_cast<Real>(batch_.row_weight[n]) : Real{1};
        if (weight == 0) {
            write(n, stream, [](std::size_t) { return V::set1(0); }, -1, 0);
            return;
        }
        student_ = batch_.student + n * classes_;
        z_ = T::has_kl ? teacher_row<V>(batch_.teacher, n, classes_, teacher_) : nullptr;
        exponentials();
        add_loss(n, weight, totals);
        const Real ce_scale = weight * static_cast<Real>(batch_.ce_scale);
        const double kl_scale = static_cast<double>(weight) * batch_.kl_scale / batch_.student_temperature;
        const F a = V::set1(static_cast<Real>(static_cast<double>(ce_scale) / sum_ce_));
        const F b = V::set1(static_cast<Real>(kl_scale / sum_student_));
        const F z = V::set1(static_cast<Real>(kl_scale / sum_teacher_));
        const F kl_high = V::set1(static_cast<Real>(divergence_high_)), kl_low = V::set1(static_cast<Real>(divergence_low_));
        const F b_ln2 = b * V::set1(static_cast<Real>(ln_of_2));
        const auto gradient = [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            F g = V::set1(0);
            if constexpr (T::has_kl) {
                const F student = V::load(e_student_ + c), other = V::load(e_teacher_ + c);
                if constexpr (T::is_reverse) {
                    g = V::zero_where_zero(student, student * (b_ln2 * (other - kl_high - kl_low)));
                } else {
                    g = V::fma(b, student, -(z * other));
                }
            }
            if constexpr (T::has_ce) g = V::fma(a, V::load((T::has_own_ce_softmax ? e_ce_ : e_student_) + c), g);
            return g;
        };
        write(n, stream, gradient, T::has_ce ? batch_.labels[n] : -1, ce_scale);
    }

    // Pass 2. e_teacher_ holds the teacher's exponentials, or, for the reverse divergence, the difference of the
    // logarithms. Float sums are cut into short runs, cross-entropy's most of all: see docs/kernels.md.
    void exponentials() {
        max_student_real_ = row_maximum<V>(student_, classes_);
        max_student_ = V::set1(max_student_real_);
        if constexpr (T::has_kl) max_teacher_ = V::set1(row_maximum<V>(z_, classes_));
        Wide ce = V::set1_wide(0), student = ce, teacher = ce, divergence = ce;
        Run run;
        const auto end_run = [&] {
            student = V::add(student, V::wide(run.student));
            teacher = V::add(teacher, V::wide(run.teacher));
            divergence = V::add(divergence, V::wide(run.divergence));
            run = Run{};
        };
        const auto full = [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            return element(c, V::load(student_ + c), T::has_kl ? V::load(z_ + c) : V::set1(0), run);
        };
        std::size_t c = 0;
        for (std::size_t group = 1; c + 4 * w <= classes_; c += 4 * w, ++group) {
            const F e0 = full(c), e1 = full(c + w), e2 = full(c + 2 * w), e3 = full(c + 3 * w);
            ce = V::add(ce, V::wide((e0 + e1) + (e2 + e3)));
            if (T::has_kl && group % 8 == 0) end_run();
        }
        for (; c + w <= classes_; c += w) ce = V::add(ce, V::wide(full(c)));
        if (c < classes_) {
            const F lowest = V::set1(-__builtin_inff());
            const std::size_t rest = classes_ - c;
            const F z = T::has_kl ? V::load_first(z_ + c, rest, lowest) : lowest;
            ce = V::add(ce, V::wide(element(c, V::load_first(student_ + c, rest, lowest), z, run)));
        }
        end_run();
        sum_ce_ = V::sum_wide(ce);
        sum_student_ = T::has_kl ? V::sum_wide(student) : 1;
        sum_teacher_ = V::sum_wide(teacher);
        sum_divergence_ = V::sum_wide(divergence);
        if constexpr (T::is_reverse) centre_divergence();
    }

    // The reverse gradient is q (d - mean of d under q), small differences of what may be thousands: a mean to float
    // digits is not enough, so its remainder is averaged again.
    void centre_divergence() {
        divergence_high_ = static_cast<double>(static_cast<Real>(sum_divergence_ / sum_student_));
        const F high = V::set1(static_cast<Real>(divergence_high_));
        Wide rest = V::set1_wide(0);
        for (std::size_t c = 0; c < classes_; c += w) {
            const F e = V::load(e_student_ + c);  // 0 in the padding, where the difference is NaN
            rest = V::add(rest, V::wide(V::zero_where_zero(e, e * (V::load(e_teacher_ + c) - high))));
        }
        divergence_low_ = V::sum_wide(rest) / sum_student_;
    }

    struct Run {
        F student = V::set1(0), teacher = V::set1(0), divergence = V::set1(0);
    };

    // One vector of pass 2; returns cross-entropy's exponentials.
    FEDAGG_INLINE F element(std::size_t c, F x, F z, Run& run) const {
        const F below_max = x - max_student_;
        F e = V::set1(0);
        if constexpr (T::has_kl) {
            const F s = scale_student_(below_max), t = scale_teacher_(z - max_teacher_);
            e = V::template exp2<T::student_digits>(s);
            const F p = V::template exp2<Digits::softened>(t);
            const F difference = T::is_reverse ? s - t : t - s;
            run.student = run.student + e;
            run.teacher = run.teacher + p;
            run.divergence = V::add_product_unless_zero(T::is_reverse ? e : p, difference, run.divergence);
            V::store(e_student_ + c, e);
            V::store(e_teacher_ + c, T::is_reverse ? difference : p);
        }
        if constexpr (T::has_own_ce_softmax) {
            e = V::exp2(below_max * k_ce_);
            V::store(e_ce_ + c, e);
        }
        return e;
    }

    void add_loss(std::size_t n, double weight, LossTotals& totals) const {
        const bool weighted = batch_.row_weight != nullptr;
        if constexpr (T::has_ce) {
            const double margin = static_cast<double>(max_student_real_) - static_cast<double>(student_[batch_.labels[n]]);
            if (weighted) {
                totals.ce += weight * (margin + __builtin_log(sum_ce_));
            } else {
                totals.ce += margin;
                totals.ce_log.add(sum_ce_);
            }
        }
        if constexpr (T::has_kl) {
            const double linear = ln_of_2 * sum_divergence_ / (T::is_reverse ? sum_student_ : sum_teacher_);
            if (weighted) {
                const double log_ratio = __builtin_log(sum_student_ / sum_teacher_);
                totals.kl += weight * (linear + (T::is_reverse ? -log_ratio : log_ratio));
            } else {
                totals.kl += linear;
                totals.student_log.add(sum_student_);
                totals.teacher_log.add(sum_teacher_);
            }
        }
    }

    // Pass 3: gradient(c) for every vector of the row, minus ce_scale at the label's class.
    template <class Gradient>
    void write(std::size_t n, StreamWriter<V>* stream, const Gradient& gradient, std::int64_t label, Real ce_scale) {
        Real* const row = batch_.gradient + n * classes_;
        for (std::size_t from = 0; from < classes_; from += stage_size) {
            const std::size_t count = classes_ - from < stage_size ? classes_ - from : stage_size;
            Real* const to = stream ? stage_ : row + from;
            std::size_t c = 0;
            for (; c + w <= count; c += w) V::store(to + c, gradient(from + c));
            if (c < count) V::store_first(to + c, gradient(from + c), count - c);
            const std::size_t at = static_cast<std::size_t>(label) - from;
            if (label >= 0 && at < count) to[at] -= ce_scale;
            if constexpr (V::has_streams) {
                if (stream) stream->append(stage_, count);
            }
        }
    }

    const DistillBatch<Real>& batch_;
    const std::size_t classes_;
    const F k_ce_;
    const LogitScale<V, T> scale_student_, scale_teacher_;
    Real *const e_ce_, *const e_student_, *const e_teacher_, *const teacher_, *const stage_;

    const Real* student_ = nullptr;  // of the row at hand, like all that follows
    const Real* z_ = nullptr;
    Real max_student_real_ = 0;
    F max_student_ = V::set1(0), max_teacher_ = V::set1(0);
    double sum_ce_ = 1, sum_student_ = 1, sum_teacher_ = 1, sum_divergence_ = 0;
    double divergence_high_ = 0, divergence_low_ = 0;
};

}  // namespace
