#include "fedagg/sgd.h"

#include "errors.h"
#include "fedagg/error.h"
#include "natives.h"
#include "views.h"

namespace fedagg::jni {

void sgd_step(JNIEnv* env, jclass, jint count, jobject parameters, jint at, jobject gradient, jint gradient_at,
              jobject velocity, jint velocity_at, jfloat learning_rate, jfloat momentum, jfloat weight_decay,
              jboolean nesterov) {
    guarded(env, [&] {
        const std::size_t n = count_of(count, "count");
        const View w = view(env, parameters, at, n, 4, "parameters"), g = view(env, gradient, gradient_at, n, 4, "gradient");
        const View v = optional_view(env, velocity, velocity_at, n, 4, "velocity");
        require_apart(w, {g, v});
        require_apart(v, {g});
        const SgdStep step{learning_rate, momentum, weight_decay, nesterov != JNI_FALSE};
        fedagg::sgd_step(w.as<float>(), g.as<const float>(), v.as<float>(), n, step);
    });
}

}  // namespace fedagg::jni
