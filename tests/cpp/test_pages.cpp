#include "check.h"
#include "fedagg/pages.h"

using namespace fedagg;

namespace {

CASE("what was unmapped is there when it is used again, and is unmapped once for all that is loaded") {
    const unsigned long long loads = unmap_loaded_pages(0);
    CHECK(unmap_loaded_pages(loads) == loads);
    double sum = 0;
    for (const float value : check::normal(1000, 1)) sum += value;  // constants and code of this program and of libm
    CHECK(std::isfinite(sum));
}

}  // namespace
