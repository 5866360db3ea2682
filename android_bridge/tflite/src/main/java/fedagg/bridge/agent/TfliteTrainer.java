package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillBatch;
import fedagg.bridge.kernels.DistillLoss;
import fedagg.bridge.kernels.DistillOptions;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.kernels.Logits;
import fedagg.bridge.model.TrainingFile;
import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import org.tensorflow.lite.Interpreter;

/**
 * Trains a training file (docs/on-device.md) in TensorFlow Lite: its graph gives logits and gradient, the C++ core the
 * losses that are reported and the SGD update. A private and a bridge pass a step.
 *
 * <p>What has a batch goes in as nested arrays: TFLite takes a new size from an array's shape alone, never from a buffer.
 * Weights and all outputs are direct buffers.
 */
public final class TfliteTrainer implements OnDeviceTrainer {
  private final Interpreter interpreter;
  private final TfliteModel model;
  private final DistillationCore core;
  private final Random random;
  private final ByteBuffer weights; // what the graphs see, then the counters
  private final ByteBuffer trial; // what the graphs see, during a step
  private final ByteBuffer velocity;
  private final ByteBuffer sum; // of the passes' gradients
  private final ByteBuffer gradient;
  private final ByteBuffer buffers;

  /** Trains {@code file}, of which the interpreter is: {@code new Interpreter(file.model())}. */
  public TfliteTrainer(Interpreter interpreter, TrainingFile file, DistillationCore core, Random random) {
    this(interpreter, TfliteModel.of(file), file.weights(), core, random);
  }

  /**
   * The interpreter is closed with this trainer, the core is not.
   *
   * @param first the first weights, which the file holds
   * @param random draws the masks of dropout
   */
  public TfliteTrainer(Interpreter interpreter, TfliteModel model, float[] first, DistillationCore core, Random random) {
    if (first.length != model.numbers()) {
      throw new IllegalArgumentException(
          "weights: got " + first.length + " numbers, expected the model's " + model.numbers()
              + "; take both from the same training file");
    }
    this.interpreter = interpreter;
    this.model = model;
    this.core = core;
    this.random = random;
    weights = Buffers.of(first);
    trial = Buffers.floats(model.seen);
    velocity = Buffers.floats(model.trained);
    sum = Buffers.floats(model.trained);
    gradient = Buffers.floats(model.trained);
    buffers = Buffers.floats(model.seen - model.trained);
  }

  @Override
  public int sampleFloats() {
    return model.sampleFloats();
  }

  @Override
  public int classes() {
    return model.classes;
  }

  @Override
  public void logits(ByteBuffer samples, int rows, ByteBuffer out) throws TrainerException {
    begin();
    ByteBuffer found = Buffers.floats(rows * model.classes);
    Map<String, Object> inputs = new HashMap<>();
    inputs.put("x", nested(Buffers.toFloats(samples, rows * model.sampleFloats()), rows, model.sampleShape));
    inputs.put("weights", trial);
    run("infer", inputs, Collections.singletonMap("logits", found));
    found.clear();
    ByteBuffer to = out.duplicate();
    to.put(found);
  }

  @Override
  public StepReport step(Batch batch, Hyperparameters h) throws TrainerException {
    begin();
    for (int i = 0; i < model.trained; i++) {
      sum.putFloat(4 * i, 0);
    }
    boolean taught = batch.teacher != null && h.beta > 0;
    float[][] own = targets(batch, 1.0 / batch.rows);
    float[][] bridge = targets(batch, h.gamma / batch.rows);
    for (int i = 0; taught && i < batch.rows; i++) {
      for (int c = 0; c < model.classes; c++) {
        bridge[i][model.classes + c] =
            batch.teacher.getFloat(4 * (i * model.classes + c)) * (float) (1 / h.temperature);
      }
      bridge[i][2 * model.classes + 1] = (float) (h.gamma / batch.rows * h.klWeight() / h.studentTemperature());
    }
    float[] plain = {1, 0};
    float[] settings = {(float) (1 / h.studentTemperature()), h.reverse ? 1 : 0};
    DistillLoss ownLoss =
        pass(batch, batch.privateSamples, own, plain, null, DistillOptions.crossEntropy(1));
    DistillLoss bridgeLoss =
        pass(batch, batch.bridgeSamples, bridge, settings, batch.teacher, h.bridgeLoss(batch.teacher != null));
    double loss = ownLoss.loss + bridgeLoss.loss;
    if (Double.isNaN(loss) || Double.isInfinite(loss) || !finite(sum) || !finite(trial)) {
      throw new TrainerException(
          "step: got a loss of " + loss + ", or a gradient or running figure that is not finite; lower the learning rate");
    }
    for (int i = 4 * model.trained; i < 4 * model.seen; i += 4) {
      weights.putFloat(i, trial.getFloat(i));
    }
    for (int i = 0; i < model.counted.length; i++) {
      int at = 4 * (model.seen + i);
      weights.putFloat(at, weights.getFloat(at) + 2 * model.counted[i]);
    }
    core.sgdStep(model.trained, weights, sum, velocity, h.learningRate, h.momentum, h.weightDecay, false);
    return new StepReport(loss, ownLoss.crossEntropy, bridgeLoss.crossEntropy, bridgeLoss.divergence);
  }

  private void begin() {
    for (int i = 0; i < 4 * model.seen; i += 4) {
      trial.putFloat(i, weights.getFloat(i));
    }
  }

  /** One-hot labels, room for a teacher, the weights of cross-entropy and divergence: learners/targets.py has the layout. */
  private float[][] targets(Batch batch, double share) {
    float[][] rows = new float[batch.rows][2 * model.classes + 2];
    for (int i = 0; i < batch.rows; i++) {
      rows[i][(int) batch.labels.getLong(8 * i)] = 1;
      rows[i][2 * model.classes] = (float) share;
    }
    return rows;
  }

  private DistillLoss pass(
      Batch batch, ByteBuffer samples, float[][] targets, float[] settings, ByteBuffer teacher, DistillOptions options)
      throws TrainerException {
    ByteBuffer logits = Buffers.floats(batch.rows * model.classes);
    Map<String, Object> inputs = new HashMap<>();
    inputs.put("x", nested(Buffers.toFloats(samples, batch.rows * model.sampleFloats()), batch.rows, model.sampleShape));
    inputs.put("weights", trial);
    inputs.put("targets", targets);
    inputs.put("settings", settings);
    for (TfliteModel.Mask mask : model.masks()) {
      float[] drawn = new float[batch.rows * TfliteModel.product(mask.shape)];
      for (int i = 0; i < drawn.length; i++) {
        drawn[i] = random.nextFloat() < mask.keep ? 1 : 0;
      }
      inputs.put(mask.name, nested(drawn, batch.rows, mask.shape));
    }
    Map<String, Object> outputs = new HashMap<>();
    outputs.put("logits", logits);
    outputs.put("gradient", gradient);
    if (model.changesBuffers) {
      outputs.put("buffers", buffers);
    }
    run("train", inputs, outputs);
    logits.clear();
    for (int i = 0; i < 4 * model.trained; i += 4) {
      sum.putFloat(i, sum.getFloat(i) + gradient.getFloat(i));
    }
    for (int i = 0; model.changesBuffers && i < buffers.capacity(); i += 4) {
      trial.putFloat(4 * model.trained + i, buffers.getFloat(i));
    }
    return core.distill(
        new DistillBatch(batch.rows, model.classes).student(logits).gradient(logits).labels(batch.labels) // the graph has it
            .teacher(teacher == null ? null : Logits.f32(teacher)),
        options);
  }

  private void run(String signature, Map<String, Object> inputs, Map<String, Object> outputs) throws TrainerException {
    trial.clear();
    gradient.clear();
    buffers.clear();
    try {
      interpreter.runSignature(inputs, outputs, signature);
    } catch (IllegalArgumentException | IllegalStateException error) {
      throw new TrainerException(
          "TFLite: cannot run " + signature + ": " + error.getMessage() + "; is the model the training file's?", error);
    }
  }

  private static boolean finite(ByteBuffer numbers) {
    for (int i = 0; i < numbers.capacity(); i += 4) {
      float each = numbers.getFloat(i);
      if (Float.isNaN(each) || Float.isInfinite(each)) {
        return false;
      }
    }
    return true;
  }

  /** float[rows][shape...] in C order. */
  static Object nested(float[] flat, int rows, int[] shape) {
    int[] all = new int[shape.length + 1];
    all[0] = rows;
    System.arraycopy(shape, 0, all, 1, shape.length);
    Object made = Array.newInstance(float.class, all);
    fill(made, flat, 0);
    return made;
  }

  private static int fill(Object into, float[] flat, int at) {
    if (into instanceof float[]) {
      float[] row = (float[]) into;
      System.arraycopy(flat, at, row, 0, row.length);
      return at + row.length;
    }
    int next = at;
    for (Object each : (Object[]) into) {
      next = fill(each, flat, next);
    }
    return next;
  }

  @Override
  public byte[] save() {
    return FlatState.save(weights, velocity);
  }

  @Override
  public void load(byte[] state) throws TrainerException {
    FlatState.load(state, weights, velocity);
  }

  @Override
  public void close() {
    interpreter.close();
  }
}
