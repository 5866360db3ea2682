// The distillation loss of one row at a time, vectorised along its classes: any C, any instruction set, any Real.
// Numerics: docs/kernels.md.
#pragma once

#include "../fedagg/kernels.h"
#include "exp2.h"
#include "exponent.h"
#include "inline.h"
#include "log_sum.h"
#include "output.h"

namespace {

using namespace fedagg;  // the contract's names; this file is only ever included by a kernel file

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

// Exponentials of the student for cross-entropy, of the softened student and of the softened teacher; and the divergence's
// probability times difference of logarithms.
template <class V>
struct Exponentials {
    typename V::F ce, student, teacher, divergence;
};

// all but cross-entropy's
template <class T, class V>
FEDAGG_INLINE Exponentials<V> plus(Exponentials<V> a, Exponentials<V> b) {  // by value: no temporaries to unwind
    Exponentials<V> sum{};
    if constexpr (T::has_kl) {
        sum.student = a.student + b.student;
        sum.teacher = a.teacher + b.teacher;
        sum.divergence = a.divergence + b.divergence;
    }
    return sum;
}

template <class V, class T>
struct LogitScales {
    explicit LogitScales(const DistillBatch<typename V::Real>& batch)
        : student(batch.student_temperature), teacher(batch.teacher_temperature) {}
    LogitScale<V> student, teacher;
};

// Where one vector's exponentials go. The reverse divergence keeps the difference of the logarithms, whole numbers in the
// teacher's place and rests in `rest`.
template <class V>
struct ExponentialsAt {
    typename V::Real *ce, *student, *teacher, *rest;
    ExponentialsAt operator+(std::size_t i) const { return {ce + i, student + i, teacher + i, rest + i}; }
};

// The divergence's part of `e`, and the softened exponentials to memory.
template <class V, class T>
FEDAGG_INLINE void finish_kl(Exponentials<V>& e, const Exponent<V>& log_q, const Exponent<V>& log_p, ExponentialsAt<V> to) {
    using F = typename V::F;
    V::store(to.student, e.student);
    if constexpr (T::is_reverse) {
        const F whole = log_q.whole - log_p.whole, rest = log_q.rest - log_p.rest;
        e.divergence = V::add_product_unless_zero(e.student, whole + rest, V::set1(0));
        V::store(to.teacher, whole);
        V::store(to.rest, rest);
    } else {
        const F difference = (log_p.whole - log_q.whole) + (log_p.rest - log_q.rest);
        e.divergence = V::add_product_unless_zero(e.teacher, difference, V::set1(0));
        V::store(to.teacher, e.teacher);
    }
    e.ce = e.student;
}

// One vector of pass 2: s and t below the maxima of their rows.
template <class V, class T>
FEDAGG_INLINE Exponentials<V> exponentials_of(const Difference<V>& s, const Difference<V>& t,
                                              const LogitScales<V, T>& scales, ExponentialsAt<V> to) {
    Exponentials<V> e{};
    if constexpr (T::has_kl) {
        const Exponent<V> log_q = scales.student.exponent(s);
        const Exponent<V> log_p = scales.teacher.template exponent<!T::is_reverse>(t);
        e.student = V::template exp2<T::student_digits>(log_q.whole, log_q.rest);
        e.teacher = V::template exp2<Digits::softened>(log_p.whole, log_p.rest);
        finish_kl<V, T>(e, log_q, log_p, to);
    }
    if constexpr (T::has_own_ce_softmax) {
        e.ce = exponential<V>(s);
        V::store(to.ce, e.ce);
    }
    return e;
}

// Two vectors of pass 2 in step, the second's results V::width further on.
template <class V, class T>
FEDAGG_INLINE void two_exponentials_of(const Difference<V>* s, const Difference<V>* t, const LogitScales<V, T>& scales,
                                       ExponentialsAt<V> to, Exponentials<V>* e) {
    using F = typename V::F;
    constexpr std::size_t kl = T::has_kl ? 2 : 0, ce = T::has_own_ce_softmax ? 2 : 0;
    Exponent<V> log_q[2] = {}, log_p[2] = {}, natural[2] = {};
    for (std::size_t i = 0; i < kl; ++i) {
        log_q[i] = scales.student.exponent(s[i]);
        log_p[i] = scales.teacher.template exponent<!T::is_reverse>(t[i]);
    }
    for (std::size_t i = 0; i < ce; ++i) natural[i] = natural_exponent<V>(s[i]);
    F softened[] = {log_q[0].rest, log_q[1].rest, log_p[0].rest, log_p[1].rest}, own[] = {natural[0].rest, natural[1].rest};
    if constexpr (T::student_digits == Digits::softened) {
        polynomials_in_step<V, Digits::softened, 2 * kl, Digits::natural, ce>(softened, own);
    } else {
        polynomials_in_step<V, Digits::softened, kl, T::student_digits, kl>(softened + 2, softened);
    }
    for (std::size_t i = 0; i < kl; ++i) {
        e[i].student = V::times_exp2(softened[i], log_q[i].whole);
        e[i].teacher = V::times_exp2(softened[2 + i], log_p[i].whole);
        finish_kl<V, T>(e[i], log_q[i], log_p[i], to + i * V::width);
    }
    for (std::size_t i = 0; i < ce; ++i) {
        e[i].ce = V::times_exp2(own[i], natural[i].whole);
        V::store(to.ce + i * V::width, e[i].ce);
    }
}

// Pass 2 of consecutive vectors, `c` floats on from where they start.
template <class V, class T>
struct Elements {
    using F = typename V::F;
    const typename V::Real *student, *teacher;
    F max_student, max_teacher;
    const LogitScales<V, T>& scales;
    ExponentialsAt<V> to;

    FEDAGG_INLINE Exponentials<V> of(std::size_t c, F x, F t) const {
        return exponentials_of<V, T>({x, max_student}, {t, max_teacher}, scales, to + c);
    }
    FEDAGG_INLINE Exponentials<V> operator()(std::size_t c) const { return of(c, V::load(student + c), teacher_at(c)); }
    FEDAGG_INLINE void in_step(std::size_t c, Exponentials<V>* e) const {
        const Difference<V> s[] = {{V::load(student + c), max_student}, {V::load(student + c + V::width), max_student}};
        const Difference<V> t[] = {{teacher_at(c), max_teacher}, {teacher_at(c + V::width), max_teacher}};
        two_exponentials_of<V, T>(s, t, scales, to + c, e);
    }

private:
    FEDAGG_INLINE F teacher_at(std::size_t c) const { return T::has_kl ? V::load(teacher + c) : V::set1(0); }
};

template <class V, class T>
struct RowSums {
    Compensated<V> ce{1}, student{4}, teacher{4}, divergence{0};  // exponentials are at most 1
    FEDAGG_INLINE void add(const Exponentials<V>& e) {
        if constexpr (T::has_ce) ce.add(e.ce);
        add_kl(e);
    }
    // elements(c) are one vector's, elements.in_step(c, e) puts these and the next one's into e; pair by pair, which keeps them in
    // registers. Cross-entropy's meet the sum one by one, for its bound leaves no room for a rounding between them.
    template <class Elements>
    FEDAGG_INLINE void add_two(const Elements& elements, std::size_t c) {
        add_kl(pair(elements, c));
    }
    template <class Elements>
    FEDAGG_INLINE void add_four(const Elements& elements, std::size_t c) {
        const Exponentials<V> e01 = pair(elements, c), e23 = pair(elements, c + 2 * V::width);
        add_kl(plus<T>(e01, e23));
    }

private:
    template <class Elements>
    FEDAGG_INLINE Exponentials<V> pair(const Elements& elements, std::size_t c) {
        Exponentials<V> a, b;
        if constexpr (V::in_step) {
            Exponentials<V> e[2] = {};
            elements.in_step(c, e);
            a = e[0];
            b = e[1];
        } else {
            a = elements(c);
            b = elements(c + V::width);
        }
        if constexpr (T::has_ce) {
            ce.add(a.ce);
            ce.add(b.ce);
        }
        return plus<T>(a, b);
    }
    FEDAGG_INLINE void add_kl(const Exponentials<V>& e) {
        if constexpr (T::has_kl) {
            student.add(e.student);
            teacher.add(e.teacher);
            divergence.add(e.divergence);
        }
    }
};

struct LossTotals {
    double ce = 0, kl = 0;              // sums of the parts that are linear in the row
    LogSum ce_log, student_log, teacher_log;

    template <class T>
    void add_to(DistillSums& sums) {
        if (T::has_ce) sums.ce += ce + ce_log.total();
        if (T::has_kl) {
            const double log_ratio = student_log.minus(teacher_log);
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

// Scratch of a row kernel: three arrays of exponentials, one of rests, and the converted teacher.
inline std::size_t padded(std::size_t classes) { return (classes + 31) / 32 * 32; }
inline std::size_t row_scratch(std::size_t classes) { return 5 * padded(classes) + 64; }

// Where the gradient of a batch goes, row by row: `begin`, then `end`. They ask source(c) for a vector of the row starting at class c.
template <class V>
class DirectWriter {
    using Real = typename V::Real;
    static constexpr std::size_t w = V::width;

public:
    static constexpr bool takes_label = false;  // the caller corrects the label's element after `end`
    template <class Source>
    void begin(Real* row, std::size_t, const Source&) {
        row_ = row;
        at_ = 0;
    }
    template <class Source>
    void end(std::size_t count, const Source& source) {
        for (; at_ + w <= count; at_ += w) V::store(row_ + at_, source(at_));
        if (at_ < count) V::store_first(row_ + at_, source(at_), count - at_);
    }

private:
    Real* row_ = nullptr;
    std::size_t at_ = 0;
};

template <class V>
class StreamedRows {
    static constexpr std::size_t w = V::width, line = StreamWriter<V>::line;

public:
    static constexpr bool takes_label = true;  // a streamed line is gone: the label is the source's business
    explicit StreamedRows(float* destination) : stream_(destination) {}
    template <class Source>
    void begin(float*, std::size_t count, const Source& source) {
        count_ = count;
        at_ = stream_.room() < count ? stream_.room() : count;
        part(0, at_, source);
    }
    template <class Source>
    void end(std::size_t count, const Source& source) {
        while (at_ + line <= count) lines(source);
        part(at_, count - at_, source);
    }
    void finish() { stream_.finish(); }

private:
    template <class Source>
    FEDAGG_INLINE void lines(const Source& source) {
        stream_.line_of([&](std::size_t i) FEDAGG_INLINE_LAMBDA { return source(at_ + i); });
        at_ += line;
    }
    template <class Source>
    void part(std::size_t from, std::size_t count, const Source& source) {
        float values[line];
        for (std::size_t i = 0; i < count; i += w) V::store(values + i, source(from + i));
        stream_.append(values, count);
    }
    StreamWriter<V> stream_;
    std::size_t at_ = 0, count_ = 0;
};

// Pass 1 finds a row's maxima, pass 2 its exponentials and their sums, pass 3 its gradient.
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
          scales_(batch),
          e_ce_(scratch),
          e_student_(scratch + padded(classes_)),
          e_teacher_(scratch + 2 * padded(classes_)),
          rest_(scratch + 3 * padded(classes_)),
          teacher_(scratch + 4 * padded(classes_)) {}

    void run(std::size_t begin, std::size_t end, DistillSums& sums) {
        LossTotals totals;
        if constexpr (V::has_streams) {
            if (batch_.larger_than_cache) {
                StreamedRows<V> out(batch_.gradient + begin * classes_);
                rows(begin, end, totals, out);
                out.finish();
                return totals.template add_to<T>(sums);
            }
        }
        DirectWriter<V> out;
        rows(begin, end, totals, out);
        totals.template add_to<T>(sums);
    }

private:
    struct Row {
        const Real* student = nullptr;
        const Real* teacher = nullptr;
        Real max_student = 0, max_teacher = 0;
    };
    struct Sums {
        double ce = 1, student = 1, teacher = 1, divergence = 0;
        double divergence_high = 0, divergence_low = 0;  // of the reverse divergence
    };
    // What turns a row's exponentials into its gradient.
    struct Factors {
        F a, b, z, b_ln2, kl_high, kl_low;
        Real ce_scale;
        std::size_t label;
    };

    template <class Out>
    void rows(std::size_t begin, std::size_t end, LossTotals& totals, Out& out) {
        for (std::size_t n = begin; n < end; ++n) {
            const Real weight = batch_.row_weight ? static_cast<Real>(batch_.row_weight[n]) : Real{1};
            if (weight == 0) {
                const auto zero = [](std::size_t) { return V::set1(0); };
                out.begin(batch_.gradient + n * classes_, classes_, zero);
                out.end(classes_, zero);
                continue;
            }
            const Row row = open(n);
            const Sums sums = exponentials(row);
            add_loss(row, n, static_cast<double>(weight), sums, totals);
            write(n, factors_of(n, weight, sums), out);
        }
    }

    Row open(std::size_t n) const {
        Row row;
        row.student = batch_.student + n * classes_;
        row.max_student = row_maximum<V>(row.student, classes_);
        if constexpr (T::has_kl) {
            row.teacher = teacher_row<V>(batch_.teacher, n, classes_, teacher_);
            row.max_teacher = row_maximum<V>(row.teacher, classes_);
        }
        return row;
    }

    Factors factors_of(std::size_t n, Real weight, const Sums& sums) const {
        const Real ce_scale = weight * static_cast<Real>(batch_.ce_scale);
        const double kl_scale = static_cast<double>(weight) * batch_.kl_scale / batch_.student_temperature;
        Factors f;
        f.a = V::set1(static_cast<Real>(static_cast<double>(ce_scale) / sums.ce));
        f.b = V::set1(static_cast<Real>(kl_scale / sums.student));
        f.z = V::set1(static_cast<Real>(kl_scale / sums.teacher));
        f.b_ln2 = f.b * V::set1(static_cast<Real>(ln_of_2));
        // NaN for the whole row, its classes of probability 0 included, where the divergence or the teacher is not finite
        if constexpr (T::is_reverse) {
            const double poison = (sums.divergence_high - sums.divergence_high) + (sums.teacher - sums.teacher);
            f.b_ln2 = f.b_ln2 + V::set1(static_cast<Real>(poison));
        }
        f.kl_high = V::set1(static_cast<Real>(sums.divergence_high));
        f.kl_low = V::set1(static_cast<Real>(sums.divergence_low));
        f.ce_scale = ce_scale;
        f.label = T::has_ce ? static_cast<std::size_t>(batch_.labels[n]) : 0;
        return f;
    }

    // One vector of pass 3, the label's element included when the writer cannot correct it afterwards.
    template <bool with_label>
    FEDAGG_INLINE F gradient(std::size_t c, const Factors& f) const {
        F g = V::set1(0);
        if constexpr (T::has_kl) {
            const F student = V::load(e_student_ + c), other = V::load(e_teacher_ + c);
            if constexpr (T::is_reverse) {
                const F log_ratio = (other - f.kl_high) + (V::load(rest_ + c) - f.kl_low);
                g = student * (f.b_ln2 * V::zero_where_improbable(student, log_ratio));
            } else {
                g = V::fma(f.b, student, -(f.z * other));
            }
        }
        if constexpr (T::has_ce) {
            g = V::fma(f.a, V::load((T::has_own_ce_softmax ? e_ce_ : e_student_) + c), g);
            if (with_label && f.label - c < w) {
                Real values[w];
                V::store(values, g);
                values[f.label - c] -= f.ce_scale;
                g = V::load(values);
            }
        }
        return g;
    }

    template <class Out>
    void write(std::size_t n, const Factors& factors, Out& out) const {
        Real* const to = batch_.gradient + n * classes_;
        const auto source = [&](std::size_t c) FEDAGG_INLINE_LAMBDA { return gradient<Out::takes_label>(c, factors); };
        out.begin(to, classes_, source);
        out.end(classes_, source);
        if constexpr (T::has_ce && !Out::takes_label) to[factors.label] -= factors.ce_scale;
    }

    // Pass 2.
    Sums exponentials(const Row& row) const {
        const Real *const s = row.student, *const z = row.teacher;
        const F max_student = V::set1(row.max_student), max_teacher = V::set1(row.max_teacher);
        const LogitScales<V, T> scales = scales_;  // a local of the loop
        const Elements<V, T> elements{s, z, max_student, max_teacher, scales, {e_ce_, e_student_, e_teacher_, rest_}};
        const bool prefetches = batch_.larger_than_cache;
        RowSums<V, T> sums;
        std::size_t c = 0;
        for (; c + 4 * w <= classes_; c += 4 * w) {
            if (prefetches) {  // the next row's; past the last one it does no harm
                for (std::size_t i = 0; i < 4 * w * sizeof(Real); i += 64) {
                    V::prefetch(reinterpret_cast<const char*>(s + c + classes_) + i);
                    if constexpr (T::has_kl) V::prefetch(reinterpret_cast<const char*>(z + c + classes_) + i);
                }
            }
            sums.add_four(elements, c);
        }
        if (V::in_step && c + 2 * w <= classes_) {
            sums.add_two(elements, c);
            c += 2 * w;
        }
        for (; c + w <= classes_; c += w) sums.add(elements(c));
        if (c < classes_) {
            const F lowest = V::set1(-__builtin_inff());
            const std::size_t rest = classes_ - c;
            const F zs = T::has_kl ? V::load_first(z + c, rest, lowest) : lowest;
            sums.add(elements.of(c, V::load_first(s + c, rest, lowest), zs));
        }
        return total(sums);
    }

    Sums total(const RowSums<V, T>& parts) const {
        Sums sums;
        if constexpr (T::has_ce) sums.ce = V::sum_wide(parts.ce.wide());
        if constexpr (T::has_kl) {
            sums.student = V::sum_wide(parts.student.wide());
            sums.teacher = V::sum_wide(parts.teacher.wide());
            sums.divergence = V::sum_wide(V::has_fma ? V::wide(parts.divergence.sum) : parts.divergence.wide());
            if (V::has_fma && sums.divergence < __builtin_inf()) sums.divergence += V::sum_wide(V::wide(parts.divergence.rest));
        }
        if constexpr (T::is_reverse) centre_divergence(sums);
        return sums;
    }

    // The reverse gradient is q (d - mean of d under q), small differences of what may be thousands: a mean to float
    // digits is not enough, so its remainder is averaged again. The first mean is cut to a whole number, so that the whole
    // part of d less the mean is exact.
    void centre_divergence(Sums& sums) const {
        const F high = V::round(V::set1(static_cast<Real>(sums.divergence / sums.student)));
        Wide rest = V::set1_wide(0);
        for (std::size_t c = 0; c < classes_; c += w) {
            const F e = V::load(e_student_ + c);  // 0 in the padding, where the difference is NaN
            const F log_ratio = (V::load(e_teacher_ + c) - high) + V::load(rest_ + c);
            rest = V::add(rest, V::wide(V::zero_where_improbable(e, e * log_ratio)));
        }
        sums.divergence_high = static_cast<double>(V::largest(high));
        sums.divergence_low = V::sum_wide(rest) / sums.student;
    }

    // infinite where the mean is, for the remainder then is NaN
    static double mean_of_reverse(const Sums& sums) {
        return sums.divergence_high < __builtin_inf() ? sums.divergence_high + sums.divergence_low : sums.divergence_high;
    }

    void add_loss(const Row& row, std::size_t n, double weight, const Sums& sums, LossTotals& totals) const {
        const bool weighted = batch_.row_weight != nullptr;
        if constexpr (T::has_ce) {
            const double margin =
                static_cast<double>(row.max_student) - static_cast<double>(row.student[batch_.labels[n]]);
            if (weighted) {
                totals.ce += weight * (margin + __builtin_log(sums.ce));
            } else {
                totals.ce += margin;
                totals.ce_log.add(sums.ce);
            }
        }
        if constexpr (T::has_kl) {
            const double linear = ln_of_2 * (T::is_reverse ? mean_of_reverse(sums) : sums.divergence / sums.teacher);
            if (weighted) {
                const double log_ratio = __builtin_log(sums.student / sums.teacher);
                totals.kl += weight * (linear + (T::is_reverse ? -log_ratio : log_ratio));
            } else {
                totals.kl += linear;
                totals.student_log.add(sums.student);
                totals.teacher_log.add(sums.teacher);
            }
        }
    }

    const DistillBatch<Real>& batch_;
    const std::size_t classes_;
    const LogitScales<V, T> scales_;
    Real *const e_ce_, *const e_student_, *const e_teacher_, *const rest_, *const teacher_;
};

}  // namespace
