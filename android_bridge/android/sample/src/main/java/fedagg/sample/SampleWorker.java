package fedagg.sample;

import android.content.Context;
import androidx.work.WorkerParameters;
import fedagg.bridge.agent.DeviceAgent;
import fedagg.bridge.android.KeystoreKey;
import fedagg.bridge.android.TrainingWorker;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import org.tensorflow.lite.Interpreter;

/** Trains the device whose files are in the application's assets. */
public final class SampleWorker extends TrainingWorker {
  private final Context context;
  private final Rounds rounds;
  private SampleDevice device;

  public SampleWorker(Context context, WorkerParameters parameters) {
    super(context, parameters);
    this.context = context;
    rounds = new Rounds(context.getNoBackupFilesDir().toPath());
  }

  @Override
  protected DeviceAgent open() throws Exception {
    Path folder = context.getNoBackupFilesDir().toPath();
    device = SampleDevice.open(folder, this::asset, KeystoreKey.open("phone"), Interpreter::new, rounds);
    return device.agent();
  }

  private byte[] asset(String name) throws IOException {
    try (InputStream in = context.getAssets().open(name)) {
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      byte[] block = new byte[8192];
      for (int count = in.read(block); count >= 0; count = in.read(block)) {
        out.write(block, 0, count);
      }
      return out.toByteArray();
    }
  }

  @Override
  protected void closed() {
    if (device != null) {
      try {
        device.close();
      } catch (Exception error) {
        failed(error);
      }
    }
  }

  @Override
  protected void failed(Exception error) {
    rounds.write("failed: " + error.getMessage());
  }
}
