package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.TrainingProgram;
import fedagg.bridge.wire.Fixtures;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.pytorch.executorch.DType;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

/** The adapter with ExecuTorch's real runtime, in a process of Python: not its Java library, and not on a phone. */
@EnabledIfSystemProperty(named = "fedagg.executorch", matches = ".+")
class ExecutorchRuntimeTest {
  private static final Path FILES = Fixtures.root().resolve("tests/jvm/fixtures");

  private static final class ProcessModule extends Module {
    private final RuntimeProcess process;

    ProcessModule(Path path) throws IOException {
      process = new RuntimeProcess(System.getProperty("fedagg.executorch"), Files.readAllBytes(path));
    }

    @Override
    public EValue[] execute(String method, EValue... inputs) {
      Map<String, RuntimeProcess.Value> given = new LinkedHashMap<>();
      for (int i = 0; i < inputs.length; i++) {
        given.put(String.valueOf(i), value(inputs[i].toTensor()));
      }
      List<EValue> found = new ArrayList<>();
      for (RuntimeProcess.Value each : process.call(method, given).values()) {
        found.add(EValue.from(tensor(each)));
      }
      return found.toArray(new EValue[0]);
    }

    private static RuntimeProcess.Value value(Tensor from) {
      int[] shape = new int[from.shape().length];
      for (int i = 0; i < shape.length; i++) {
        shape[i] = (int) from.shape()[i];
      }
      if (from.dtype() == DType.UINT8) {
        return new RuntimeProcess.Value(RuntimeProcess.UINT8, shape, from.getDataAsUnsignedByteArray());
      }
      boolean whole = from.dtype() == DType.INT64;
      ByteBuffer data = ByteBuffer.allocate((int) from.numel() * (whole ? 8 : 4)).order(ByteOrder.LITTLE_ENDIAN);
      if (whole) {
        data.asLongBuffer().put(from.getDataAsLongArray());
      } else {
        data.asFloatBuffer().put(from.getDataAsFloatArray());
      }
      return new RuntimeProcess.Value(whole ? RuntimeProcess.INT64 : RuntimeProcess.FLOAT, shape, data.array());
    }

    private static Tensor tensor(RuntimeProcess.Value from) {
      long[] shape = new long[from.shape.length];
      for (int i = 0; i < shape.length; i++) {
        shape[i] = from.shape[i];
      }
      return from.type == RuntimeProcess.UINT8
          ? Tensor.fromBlobUnsigned(from.data, shape)
          : from.type == RuntimeProcess.INT64
              ? Tensor.fromBlob(from.longs(), shape)
              : Tensor.fromBlob(from.floats(), shape);
    }

    @Override
    public void destroy() {
      process.close();
    }
  }

  /** Draws zeros, below every probability: dropout keeps all, as in the golden steps. */
  private static final class Zeros extends Random {
    private static final long serialVersionUID = 1L;

    @Override
    public float nextFloat() {
      return 0;
    }
  }

  @Test
  void stepsAndLogitsAreTorchs() throws Exception {
    Path path = FILES.resolve("small.pte");
    TrainingProgram file = TrainingProgram.read(path);
    try (DistillationCore core = DistillationCore.open();
        ExecutorchTrainer trainer = new ExecutorchTrainer(new ProcessModule(path), file, core, new Zeros())) {
      Golden golden = new Golden(FILES.resolve("small.npz"));
      golden.replay(trainer, 6, 1e-5, 1e-4); // as the exporter's check and tests/golden ask
      golden.logits(trainer, 1e-3); // of weights that are within 1e-4; more samples than the program takes at once
    }
  }

  @Test
  void dropoutDrops() throws Exception {
    Path path = FILES.resolve("small.pte");
    try (DistillationCore core = DistillationCore.open();
        ExecutorchTrainer trainer =
            new ExecutorchTrainer(new ProcessModule(path), TrainingProgram.read(path), core, new Random(1))) {
      Golden golden = new Golden(FILES.resolve("small.npz"));
      AssertionError apart =
          org.junit.jupiter.api.Assertions.assertThrows(
              AssertionError.class, () -> golden.replay(trainer, 1, 1e-5, 1e-4));
      assertTrue(apart.getMessage().contains("step 0"), apart.getMessage());
    }
  }
}
