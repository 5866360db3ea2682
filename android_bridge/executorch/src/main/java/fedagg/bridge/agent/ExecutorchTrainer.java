package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillBatch;
import fedagg.bridge.kernels.DistillLoss;
import fedagg.bridge.kernels.DistillOptions;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.kernels.Logits;
import fedagg.bridge.model.ModelEntry;
import fedagg.bridge.model.TrainingProgram;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.pytorch.executorch.DType;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

/**
 * Trains a training program (docs/executorch.md) in ExecuTorch: its methods give logits and gradients, the C++ core the loss
 * between them and the SGD update. A private and a bridge pass a step.
 *
 * <p>Weights are read where they lie. What a method gives lies in the runtime's memory until it is run again, so that is
 * copied before it goes into another one.
 */
public final class ExecutorchTrainer implements OnDeviceTrainer {
  private final Module module;
  private final TrainingProgram file;
  private final DistillationCore core;
  private final Random random;
  private final int trained;
  private final int sampleFloats;
  private final ByteBuffer weights; // flat, whole numbers as floats
  private final ByteBuffer trial; // what is not trained, during a step
  private final ByteBuffer velocity;
  private final ByteBuffer sum; // of the passes' gradients
  private final List<ModelEntry> parameters = new ArrayList<>();
  private final List<ModelEntry> buffers = new ArrayList<>();

  /** Trains {@code file}, of which the module is: {@code Module.load(path)}, after the file was read. It is destroyed with this. */
  public ExecutorchTrainer(Module module, TrainingProgram file, DistillationCore core, Random random) {
    this.module = module;
    this.file = file;
    this.core = core;
    this.random = random;
    trained = file.trained();
    int floats = 1;
    for (int side : file.sampleShape()) {
      floats *= side;
    }
    sampleFloats = floats;
    float[] first = file.weights();
    weights = Buffers.of(first);
    trial = Buffers.floats(first.length - trained);
    velocity = Buffers.floats(trained);
    sum = Buffers.floats(trained);
    for (ModelEntry entry : file.entries()) {
      (entry.kind == ModelEntry.Kind.TRAINED ? parameters : buffers).add(entry);
    }
  }

  @Override
  public int sampleFloats() {
    return sampleFloats;
  }

  @Override
  public int classes() {
    return file.classes();
  }

  @Override
  public void logits(ByteBuffer samples, int rows, ByteBuffer out) throws TrainerException {
    begin();
    List<Tensor> state = state();
    ByteBuffer to = out.duplicate();
    to.clear();
    for (int at = 0; at < rows; at += file.rows()) {
      int count = Math.min(file.rows(), rows - at);
      List<Tensor> inputs = new ArrayList<>(state);
      inputs.add(samples(samples, at, count));
      to.put(Buffers.of(floats("infer", run("infer", inputs, 1), 0, count * classes())));
    }
  }

  @Override
  public StepReport step(Batch batch, Hyperparameters h) throws TrainerException {
    if (batch.rows > file.rows()) {
      throw new TrainerException(
          "batch: got " + batch.rows + " samples, this program takes at most " + file.rows()
              + "; lower batchSize, or export the model with more rows");
    }
    begin();
    for (int i = 0; i < sum.capacity(); i += 4) {
      sum.putFloat(i, 0);
    }
    DistillLoss own = pass(batch, batch.privateSamples, null, DistillOptions.crossEntropy(1));
    DistillLoss bridge = pass(batch, batch.bridgeSamples, batch.teacher, h.bridgeLoss(batch.teacher != null));
    double loss = own.loss + bridge.loss;
    if (Double.isNaN(loss) || Double.isInfinite(loss) || !finite(sum) || !finite(trial)) {
      throw new TrainerException(
          "step: got a loss of " + loss + ", or a gradient or running figure that is not finite; lower the learning rate");
    }
    for (int i = 0; i < trial.capacity(); i += 4) {
      weights.putFloat(4 * trained + i, trial.getFloat(i));
    }
    core.sgdStep(trained, weights, sum, velocity, h.learningRate, h.momentum, h.weightDecay, false);
    return new StepReport(loss, own.crossEntropy, bridge.crossEntropy, bridge.divergence);
  }

  private void begin() {
    for (int i = 0; i < trial.capacity(); i += 4) {
      trial.putFloat(i, weights.getFloat(4 * trained + i));
    }
  }

  /** Forward pass, loss, backward pass of one batch: the gradient adds up, the buffers move on. */
  private DistillLoss pass(Batch batch, ByteBuffer samples, ByteBuffer teacher, DistillOptions options)
      throws TrainerException {
    List<Tensor> state = state();
    Tensor x = samples(samples, 0, batch.rows);
    Tensor noise = file.noiseColumns() == 0 ? null : noise(batch.rows);
    List<Tensor> inputs = new ArrayList<>(state);
    if (noise != null) {
      inputs.add(noise);
    }
    inputs.add(x);
    EValue[] given = run("forward", inputs, 1 + file.changed().length);
    ByteBuffer logits = Buffers.of(floats("forward", given, 0, batch.rows * classes()));
    ByteBuffer upstream = Buffers.bytes(logits.capacity());
    DistillLoss loss =
        core.distill(
            new DistillBatch(batch.rows, classes()).student(logits).labels(batch.labels).gradient(upstream)
                .teacher(teacher == null ? null : Logits.f32(teacher)),
            options);
    Tensor slope = Tensor.fromBlob(upstream.asFloatBuffer(), new long[] {batch.rows, classes()});
    List<Tensor> taken = new ArrayList<>();
    for (String name : file.backward()) {
      taken.add(
          name.equals("x") ? x : name.equals("upstream") ? slope : name.equals("noise") ? noise : find(name, state, given));
    }
    float[][] moved = moved(given);
    add(run("backward", taken, parameters.size())); // it may want the buffers that the forward pass saw
    keep(moved);
    return loss;
  }

  private Tensor find(String name, List<Tensor> state, EValue[] given) throws TrainerException {
    int number = Integer.parseInt(name.substring(name.indexOf(':') + 1));
    if (!name.startsWith("output:")) {
      return state.get(number + (name.startsWith("buffer:") ? parameters.size() : 0));
    }
    if (number >= given.length) {
      throw new TrainerException(
          "ExecuTorch: forward gave " + given.length + " values, backward wants " + name + "; is the module the program's?");
    }
    return copy(given[number].toTensor(), number);
  }

  /** The buffers that a forward pass gives, in the order of the file's {@code changed}. */
  private float[][] moved(EValue[] given) throws TrainerException {
    int[] changed = file.changed();
    float[][] found = new float[changed.length][];
    for (int i = 0; i < changed.length; i++) {
      ModelEntry entry = buffers.get(changed[i]);
      if (entry.kind == ModelEntry.Kind.COUNTER) {
        long[] numbers = longs(given, 1 + i, entry.size);
        found[i] = new float[numbers.length];
        for (int k = 0; k < numbers.length; k++) {
          found[i][k] = numbers[k];
        }
      } else {
        found[i] = floats("forward", given, 1 + i, entry.size);
      }
    }
    return found;
  }

  private void keep(float[][] moved) {
    for (int i = 0; i < moved.length; i++) {
      int at = buffers.get(file.changed()[i]).start - trained;
      for (int k = 0; k < moved[i].length; k++) {
        trial.putFloat(4 * (at + k), moved[i][k]);
      }
    }
  }

  private void add(EValue[] gradients) throws TrainerException {
    for (int i = 0; i < parameters.size(); i++) {
      ModelEntry entry = parameters.get(i);
      float[] numbers = floats("backward", gradients, i, entry.size);
      for (int k = 0; k < numbers.length; k++) {
        int at = 4 * (entry.start + k);
        sum.putFloat(at, sum.getFloat(at) + numbers[k]);
      }
    }
  }

  /** Parameters where they lie, buffers of the trial; whole numbers are copied, as they are floats here. */
  private List<Tensor> state() {
    List<Tensor> found = new ArrayList<>();
    for (ModelEntry entry : parameters) {
      found.add(Tensor.fromBlob(part(weights, entry.start, entry.size).asFloatBuffer(), longs(entry.shape())));
    }
    for (ModelEntry entry : buffers) {
      ByteBuffer values = part(trial, entry.start - trained, entry.size);
      if (entry.kind == ModelEntry.Kind.COUNTER) {
        long[] numbers = new long[entry.size];
        for (int k = 0; k < numbers.length; k++) {
          numbers[k] = (long) values.getFloat(4 * k);
        }
        found.add(Tensor.fromBlob(numbers, longs(entry.shape())));
      } else {
        found.add(Tensor.fromBlob(values.asFloatBuffer(), longs(entry.shape())));
      }
    }
    return found;
  }

  private Tensor samples(ByteBuffer from, int at, int rows) {
    int[] shape = file.sampleShape();
    int[] all = new int[1 + shape.length];
    all[0] = rows;
    System.arraycopy(shape, 0, all, 1, shape.length);
    return Tensor.fromBlob(part(from, at * sampleFloats, rows * sampleFloats).asFloatBuffer(), longs(all));
  }

  private Tensor noise(int rows) {
    float[] drawn = new float[rows * file.noiseColumns()];
    for (int i = 0; i < drawn.length; i++) {
      drawn[i] = random.nextFloat();
    }
    return Tensor.fromBlob(drawn, new long[] {rows, file.noiseColumns()});
  }

  /** Some numbers of a buffer: the runtime wants buffers that hold as many as the shape says, no more. */
  private static ByteBuffer part(ByteBuffer from, int start, int count) {
    ByteBuffer found = from.duplicate();
    found.clear();
    found.position(4 * start);
    found.limit(4 * (start + count));
    return found.slice().order(ByteOrder.nativeOrder());
  }

  private static long[] longs(int[] shape) {
    long[] found = new long[shape.length];
    for (int i = 0; i < shape.length; i++) {
      found[i] = shape[i];
    }
    return found;
  }

  private static Tensor copy(Tensor given, int number) throws TrainerException {
    DType type = given.dtype();
    if (type == DType.FLOAT) {
      return Tensor.fromBlob(given.getDataAsFloatArray(), given.shape());
    }
    if (type == DType.INT64) {
      return Tensor.fromBlob(given.getDataAsLongArray(), given.shape());
    }
    if (type == DType.UINT8) {
      return Tensor.fromBlobUnsigned(given.getDataAsUnsignedByteArray(), given.shape());
    }
    throw new TrainerException(
        "ExecuTorch: output " + number + " of forward is " + type + ", of which Java's tensors hold no data: a program of an "
            + "older version; export the model again with `fedagg export --to executorch`");
  }

  private static float[] floats(String method, EValue[] given, int number, int count) throws TrainerException {
    Tensor tensor = given[number].toTensor();
    float[] found = tensor.dtype() == DType.FLOAT ? tensor.getDataAsFloatArray() : null;
    if (found == null || found.length != count) {
      throw unexpected(method, number, tensor, count + " float32 numbers");
    }
    return found;
  }

  private static long[] longs(EValue[] given, int number, int count) throws TrainerException {
    Tensor tensor = given[number].toTensor();
    long[] found = tensor.dtype() == DType.INT64 ? tensor.getDataAsLongArray() : null;
    if (found == null || found.length != count) {
      throw unexpected("forward", number, tensor, count + " int64 numbers");
    }
    return found;
  }

  private static TrainerException unexpected(String method, int number, Tensor got, String expected) {
    return new TrainerException(
        "ExecuTorch: output " + number + " of " + method + ": got " + got.numel() + " of " + got.dtype() + ", expected "
            + expected + "; is the module the training program's?");
  }

  private EValue[] run(String method, List<Tensor> inputs, int least) throws TrainerException {
    EValue[] values = new EValue[inputs.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = EValue.from(inputs.get(i));
    }
    EValue[] found;
    try {
      found = module.execute(method, values);
    } catch (RuntimeException error) { // ExecutorchRuntimeException, and what Java's tensors throw of types they lack
      throw new TrainerException(
          "ExecuTorch: cannot run " + method + ": " + error.getMessage()
              + "; is the module the program's, and was it exported by a version that knows of Java?",
          error);
    }
    if (found.length < least) { // a module that was destroyed gives nothing
      throw new TrainerException(
          "ExecuTorch: " + method + " gave " + found.length + " values, expected " + least + " or more; was the module closed?");
    }
    return found;
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
    module.destroy();
  }
}
