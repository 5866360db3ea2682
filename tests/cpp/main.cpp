#include <cstdint>

#include "check.h"
#include "fedagg/cpu.h"

namespace check {
namespace {
int failures = 0;
std::string where;
}  // namespace

std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

void fail(const char* file, int line, const std::string& what) {
    if (++failures <= 40) std::printf("%s:%d: [%s] %s\n", file, line, where.c_str(), what.c_str());
}

std::vector<float> normal(std::size_t count, unsigned seed, float scale) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> distribution(0.F, scale);
    std::vector<float> values(count);
    for (float& value : values) value = distribution(generator);
    return values;
}

std::vector<std::int64_t> labels(std::size_t count, std::size_t classes, unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_int_distribution<std::int64_t> distribution(0, static_cast<std::int64_t>(classes) - 1);
    std::vector<std::int64_t> values(count);
    for (std::int64_t& value : values) value = distribution(generator);
    return values;
}

}  // namespace check

int main() {
    for (const fedagg::Kernels* kernels : fedagg::available_kernels()) {
        fedagg::set_active_isa(kernels->name);
        for (const check::Case& test : check::cases()) {
            check::where = std::string(kernels->name) + ": " + test.name;
            test.body();
        }
        std::printf("%s: %zu cases\n", kernels->name, check::cases().size());
    }
    std::printf(check::failures == 0 ? "all passed\n" : "%d checks failed\n", check::failures);
    return check::failures == 0 ? 0 : 1;
}
