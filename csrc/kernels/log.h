// Natural logarithm of positive normal floats: x = m * 2^e with m in [0.75, 1.5), log m by its odd series in
// u = (m - 1) / (m + 1), |u| <= 0.2. Relative error below 2e-7. NaN and infinity give NaN.
#pragma once

namespace {

constexpr float smallest_normal = 1.17549435e-38F;

template <class V>
inline typename V::F log_normal(typename V::F x) {
    using F = typename V::F;
    const F one = V::set1(1);
    F e;
    const F m = V::split(x, e);
    const F u = (m - one) / (m + one);
    const F u2 = u * u;
    F p = V::set1(2.F / 11);
    p = V::fma(p, u2, V::set1(2.F / 9));
    p = V::fma(p, u2, V::set1(2.F / 7));
    p = V::fma(p, u2, V::set1(2.F / 5));
    p = V::fma(p, u2, V::set1(2.F / 3));
    p = V::fma(p, u2, V::set1(2.F));
    return V::fma(e, V::set1(0.69314718056F), p * u) + (x - x);
}

}  // namespace
