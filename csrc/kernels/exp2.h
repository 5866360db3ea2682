// 2^r on a reduced argument: minimax polynomials with a constant term of exactly 1, so that exp(0) == 1 and the largest
// class of a row contributes no error. Degree 6 for cross-entropy: relative error of the polynomial 3e-9, of its f32
// evaluation 7e-8. Degree 5 for the softened softmaxes of the divergence, which is asked for fewer digits: 9e-8, 1.5e-7.
#pragma once

#include <cstddef>

#include "inline.h"

namespace {

enum class Digits { all, softened, natural };  // natural: e^r, all digits

constexpr std::size_t degree(Digits digits) { return digits == Digits::softened ? 5 : 6; }

struct Exp2Floor {  // r = t - floor(t), in [0, 1)
    static constexpr float degree6[] = {1.F,           6.931470633e-01F, 2.402290851e-01F, 5.548618361e-02F,
                                        9.673775174e-03F, 1.248228946e-03F, 2.156597184e-04F};
    static constexpr float degree5[] = {1.F,           6.931512952e-01F, 2.401645929e-01F,
                                        5.579951406e-02F, 9.017480537e-03F, 1.866952516e-03F};
};

struct Exp2Nearest {  // r = t - round(t), in [-0.5, 0.5]
    static constexpr float degree6[] = {1.F,           6.931471825e-01F, 2.402264774e-01F, 5.550359935e-02F,
                                        9.618505836e-03F, 1.339080743e-03F, 1.532647002e-04F};
    static constexpr float degree5[] = {1.F,           6.931470037e-01F, 2.402224690e-01F,
                                        5.550711229e-02F, 9.671294130e-03F, 1.326940604e-03F};
    // degree6 for |r| <= log(2) / 2 and base e: coefficient i times log2(e)^i
    static constexpr float natural6[] = {1.F,           1.F,             4.999999385e-01F, 1.666651373e-01F,
                                         4.166829869e-02F, 8.369113532e-03F, 1.381940592e-03F};
};

template <class Coefficients, Digits digits>
constexpr const float* coefficients() {
    if constexpr (digits == Digits::softened) return Coefficients::degree5;
    if constexpr (digits == Digits::all) return Coefficients::degree6;
    if constexpr (digits == Digits::natural) return Coefficients::natural6;
}

// Coefficient i in every lane. Where a multiply-add overwrites its addend (NEON), each is loaded when it is due: a register
// would have to be copied, and GCC, short of registers, takes two instructions for a constant that it knows.
template <class V, class Coefficients, Digits digits>
class Splat {
    static constexpr std::size_t terms = degree(digits) + 1;

public:
    Splat() {
        if constexpr (V::loads_constants) __asm__("" : "+r"(rows_));  // GCC no longer knows what it points to
    }
    typename V::F operator()(std::size_t i) const {
        if constexpr (V::loads_constants) return V::load(rows_ + i * V::width);
        return V::set1(coefficients<Coefficients, digits>()[i]);
    }

private:
    struct Rows {
        float value[terms * V::width];
    };
    static constexpr Rows rows() {
        Rows all{};
        for (std::size_t i = 0; i < terms * V::width; ++i) all.value[i] = coefficients<Coefficients, digits>()[i / V::width];
        return all;
    }
    alignas(16) static constexpr Rows table_ = rows();
    const float* rows_ = table_.value;
};

template <class V, class Coefficients, Digits digits>
inline typename V::F exp2_polynomial(typename V::F r) {
    const Splat<V, Coefficients, digits> c;
    typename V::F p = c(5);
    if constexpr (digits != Digits::softened) p = V::fma(c(6), r, p);
    p = V::fma(p, r, c(4));
    p = V::fma(p, r, c(3));
    p = V::fma(p, r, c(2));
    p = V::fma(p, r, c(1));
    return V::fma(p, r, c(0));
}

// The polynomials of r[0] to r[a - 1] and, of another kind, of s[0] to s[b - 1], in place and in step: every term waits for the
// one before it, and one polynomial after the other would leave the units idle. NEON's FMA overwrites its addend, which makes
// a copy of every shared coefficient: there (in_step is false) the first version took 8 to 10 % more instructions, in part by other changes.
template <class V, Digits digits_r, std::size_t a, Digits digits_s, std::size_t b>
FEDAGG_INLINE void polynomials_in_step(typename V::F* r, typename V::F* s) {
    using F = typename V::F;
    const Splat<V, Exp2Nearest, digits_r> cr;
    const Splat<V, Exp2Nearest, digits_s> cs;
    constexpr std::size_t top_r = degree(digits_r), top_s = degree(digits_s);
    F p[a + 1], q[b + 1];  // an array of none is not C++
    for (std::size_t j = 0; j < a; ++j) p[j] = cr(top_r);
    for (std::size_t j = 0; j < b; ++j) q[j] = cs(top_s);
    for (std::size_t i = top_r > top_s ? top_r : top_s; i-- > 0;) {
        if (i < top_s) {
            for (std::size_t j = 0; j < b; ++j) q[j] = V::fma(q[j], s[j], cs(i));
        }
        if (i < top_r) {
            for (std::size_t j = 0; j < a; ++j) p[j] = V::fma(p[j], r[j], cr(i));
        }
    }
    for (std::size_t j = 0; j < a; ++j) r[j] = p[j];
    for (std::size_t j = 0; j < b; ++j) s[j] = q[j];
}

}  // namespace
