#include "fedagg/cpu.h"

#include <atomic>
#include <cstdlib>

#include "fedagg/error.h"

#if defined(FEDAGG_HAVE_AVX2) || defined(FEDAGG_HAVE_AVX512)
#include <cpuid.h>
#endif

namespace fedagg {
namespace {

constexpr const char* force_variable = "FEDAGG_FORCE_ISA";

#if defined(FEDAGG_HAVE_AVX2)
bool runs_avx2() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#if defined(FEDAGG_HAVE_AVX512)
bool runs_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

std::vector<const Kernels*> detect() {
    std::vector<const Kernels*> found;
#if defined(FEDAGG_HAVE_AVX512)
    if (runs_avx512()) found.push_back(&kernels_avx512);
#endif
#if defined(FEDAGG_HAVE_AVX2)
    if (runs_avx2()) found.push_back(&kernels_avx2);
#endif
#if defined(FEDAGG_HAVE_NEON)
    found.push_back(&kernels_neon);  // part of every AArch64 CPU
#endif
    found.push_back(&kernels_scalar);
    return found;
}

std::string names() {
    std::string list;
    for (const Kernels* kernels : available_kernels()) {
        if (!list.empty()) list += ", ";
        list += kernels->name;
    }
    return list;
}

const Kernels& find(const std::string& name, const std::string& source) {
    for (const Kernels* kernels : available_kernels()) {
        if (name == kernels->name) return *kernels;
    }
    throw ArgumentError(source + ": got '" + name + "', expected one that this build and cpu have: " + names());
}

const Kernels& choose() {
    const char* forced = std::getenv(force_variable);
    return forced == nullptr || *forced == '\0' ? *available_kernels().front() : find(forced, force_variable);
}

std::atomic<const Kernels*> active{nullptr};

}  // namespace

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> kernels = detect();
    return kernels;
}

const Kernels& active_kernels() {
    const Kernels* kernels = active.load(std::memory_order_acquire);
    if (kernels == nullptr) {
        const Kernels* chosen = &choose();
        // another thread may have been faster, or set_active_isa: then its choice stands
        kernels = active.compare_exchange_strong(kernels, chosen) ? chosen : kernels;
    }
    return *kernels;
}

void set_active_isa(const std::string& name) { active.store(&find(name, "isa"), std::memory_order_release); }

std::string active_isa_reason() {
    const Kernels& kernels = active_kernels();
    const std::string have = " (available: " + names() + ")";
    const char* forced = std::getenv(force_variable);
    if (forced != nullptr && kernels.name == std::string(forced)) {
        return std::string(kernels.name) + ": pinned by " + force_variable + have;
    }
    const bool best = &kernels == available_kernels().front();
    return kernels.name + std::string(best ? ": the widest this build and cpu have" : ": set by the program") + have;
}

}  // namespace fedagg
