#include "check.h"
#include "fedagg/sgd.h"

using namespace fedagg;

CASE("a step of every kind against double, over lengths and misaligned starts") {
    for (const std::size_t count : std::initializer_list<std::size_t>{1, 3, 8, 15, 16, 17, 63, 64, 65, 1000}) {
        for (const float momentum : {0.F, 0.9F}) {
            for (const bool nesterov : {false, true}) {
                if (nesterov && momentum == 0) continue;
                const auto gradient = check::normal(count + 1, 2);
                auto parameters = check::normal(count + 1, 1), velocity = check::normal(count + 1, 3);
                const auto before = parameters, velocity_before = velocity;
                const SgdStep step{0.1F, momentum, 0.01F, nesterov};
                sgd_step(parameters.data() + 1, gradient.data() + 1, momentum == 0 ? nullptr : velocity.data() + 1, count, step);
                CHECK(parameters[0] == before[0]);
                for (std::size_t i = 1; i <= count; ++i) {
                    const double g = static_cast<double>(gradient[i]) + 0.01 * static_cast<double>(before[i]);
                    const double v = static_cast<double>(momentum) * static_cast<double>(velocity_before[i]) + g;
                    const double by = momentum == 0 ? g : nesterov ? g + static_cast<double>(momentum) * v : v;
                    CHECK(check::close(static_cast<double>(parameters[i]), static_cast<double>(before[i]) - 0.1 * by, 2e-6));
                    CHECK(momentum == 0 || check::close(static_cast<double>(velocity[i]), v, 2e-6));
                }
            }
        }
    }
}

CASE("steps that are refused") {
    float parameter = 1, gradient = 1;
    CHECK_THROWS(sgd_step(&parameter, &gradient, nullptr, 1, {-1.F, 0.F, 0.F, false}), "learning_rate: got -1");
    CHECK_THROWS(sgd_step(&parameter, &gradient, nullptr, 1, {1.F, 0.9F, 0.F, false}), "velocity_P: got none");
    CHECK(parameter == 1);
}
