// The sum of many logarithms as the logarithm of a product: one call of log for dozens of rows.
#pragma once

namespace {

// Accepts factors in [1, 1e110]; a NaN factor makes the total NaN.
class LogSum {
public:
    void add(double factor) {
        product_ *= factor;
        if (!(product_ < 1e190)) flush();
    }
    double total() const { return sum_ + __builtin_log(product_); }
    // this total less the other's, by one logarithm
    double minus(const LogSum& other) const { return (sum_ - other.sum_) + __builtin_log(product_ / other.product_); }

private:
    void flush() {
        sum_ += __builtin_log(product_);
        product_ = 1;
    }
    double product_ = 1;
    double sum_ = 0;
};

}  // namespace
