#include "fedagg/sgd.h"

#include <cmath>
#include <string>

#include "fedagg/cpu.h"
#include "fedagg/error.h"
#include "number_text.h"

namespace fedagg {
namespace {

void check(const char* name, float value) {
    if (!(value >= 0) || !std::isfinite(value)) {
        throw ArgumentError(std::string(name) + ": got " + text(value) + ", expected a finite number, 0 or more");
    }
}

}  // namespace

void sgd_step(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep& step) {
    check("learning_rate", step.learning_rate);
    check("momentum", step.momentum);
    check("weight_decay", step.weight_decay);
    if (step.momentum != 0 && velocity == nullptr && count != 0) {
        throw ArgumentError("velocity_P: got none, expected a buffer because momentum is not 0; start it with zeros");
    }
    if (step.nesterov && step.momentum == 0) {
        throw ArgumentError("nesterov: got true without momentum, expected a momentum above 0");
    }
    active_kernels().f32_sgd_run(parameters, gradient, velocity, count, step);
}

}  // namespace fedagg
