// A test harness of one page: CASE defines a test, CHECK and CHECK_THROWS record failures, main (main.cpp) runs them all,
// once for every instruction set of this machine.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "fedagg/error.h"

namespace check {

struct Case {
    const char* name;
    std::function<void()> body;
};

std::vector<Case>& cases();
void fail(const char* file, int line, const std::string& what);

struct Register {
    Register(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};

// Exactly `count` values in memory of their own, so that the address sanitizer sees a kernel reading past the end.
std::vector<float> normal(std::size_t count, unsigned seed, float scale = 3.F);
std::vector<std::int64_t> labels(std::size_t count, std::size_t classes, unsigned seed);

inline bool close(double a, double b, double tolerance) {
    return std::fabs(a - b) <= tolerance * std::fmax(1.0, std::fabs(b)) || (std::isnan(a) && std::isnan(b)) || a == b;
}

}  // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)
#define CASE(name)                                                                                  \
    static void CHECK_JOIN(case_, __LINE__)();                                                      \
    static const check::Register CHECK_JOIN(register_, __LINE__)(name, CHECK_JOIN(case_, __LINE__)); \
    static void CHECK_JOIN(case_, __LINE__)()
#define CHECK(condition) \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition)
#define CHECK_THROWS(expression, words)                                                                        \
    try {                                                                                                      \
        expression;                                                                                            \
        check::fail(__FILE__, __LINE__, "did not throw: " #expression);                                        \
    } catch (const fedagg::ArgumentError& error) {                                                             \
        if (std::string(error.what()).find(words) == std::string::npos) check::fail(__FILE__, __LINE__, error.what()); \
    }
