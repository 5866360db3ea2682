package fedagg.sample;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import android.app.Activity;
import android.content.Context;
import android.content.res.AssetManager;
import android.os.Bundle;
import android.os.Handler;
import android.widget.ScrollView;
import android.widget.TextView;
import androidx.work.WorkManager;
import androidx.work.WorkerParameters;
import fedagg.bridge.agent.StepReport;
import fedagg.bridge.identity.FileKey;
import fedagg.bridge.model.ModelFileException;
import fedagg.bridge.wire.Fixtures;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.tensorflow.lite.Interpreter;

/** The sample, as far as it can be looked at without Android; FleetTest runs its device. */
class SampleTest {
  private static final Path MODULE = Fixtures.root().resolve("android_bridge/android/sample");

  @TempDir Path home;

  private static byte[] fixture(String name) throws IOException {
    return Files.readAllBytes(Fixtures.root().resolve("tests/jvm/fixtures/" + name));
  }

  @Test
  void theActivityShowsWhatTheAgentTells() {
    Activity.files = home.toFile();
    class Opened {
      final SampleActivity activity = new SampleActivity();

      String text() {
        return ((TextView) ((ScrollView) activity.content).child).getText().toString();
      }
    }
    Opened opened = new Opened();
    opened.activity.onCreate(new Bundle());
    assertTrue(WorkManager.getInstance(opened.activity).work.containsKey(SampleWorker.class.getName()));
    opened.activity.onResume();
    assertTrue(opened.text().contains("no round yet"));
    Rounds rounds = new Rounds(home);
    rounds.connected("edge-a");
    rounds.round(3, 120, new StepReport(1.5, 1, 0.25, 0.25));
    rounds.setAside(2);
    rounds.finished();
    assertEquals(1, Handler.POSTED.size());
    Handler.POSTED.remove(0).run();
    assertTrue(opened.text().contains("2 rows wait"), opened.text());
    assertTrue(opened.text().contains("round 3: 120 samples, loss 1.5000, divergence from the edge 0.2500"), opened.text());
    assertTrue(opened.text().contains("the training is over"));
    opened.activity.onPause();
    assertTrue(Handler.POSTED.isEmpty());
  }

  @Test
  void whatIsShownStaysSmall() throws Exception {
    Rounds rounds = new Rounds(home);
    for (int i = 0; i < 3000; i++) {
      rounds.refused("the disk is full, says line " + i);
    }
    assertTrue(Files.size(home.resolve("rounds.txt")) < 70_000);
    assertTrue(rounds.text().contains("line 2999"));
  }

  @Test
  void aWorkerWithoutItsFilesSaysWhichIsMissing() {
    Context context =
        new Context() {
          @Override
          public File getNoBackupFilesDir() {
            return home.toFile();
          }

          @Override
          public AssetManager getAssets() {
            return new AssetManager(home.toFile());
          }
        };
    fedagg.bridge.android.SoftwareKeystore keystore = new fedagg.bridge.android.SoftwareKeystore();
    java.security.Security.addProvider(keystore);
    try {
      SampleWorker worker = new SampleWorker(context, new WorkerParameters());
      assertEquals("retry", worker.doWork().toString());
      assertTrue(new Rounds(home).text().contains("device.properties"), new Rounds(home).text());
    } finally {
      java.security.Security.removeProvider(keystore.getName());
    }
  }

  @Test
  void aCodecOfAnotherAutoencoderIsRefusedBeforeAnythingIsSent() throws Exception {
    SampleDevice.Content content =
        name ->
            name.equals("device.properties")
                ? "url=https://127.0.0.1:1\n".getBytes(StandardCharsets.UTF_8)
                : fixture(name.equals("autoencoder.safetensors") ? "tables.safetensors" : name);
    assertThrows(
        ModelFileException.class,
        () -> SampleDevice.open(home, content, FileKey.open(home.resolve("key.pem")), Interpreter::new, new Rounds(home)));
    assertFalse(Files.exists(home.resolve("identity")));
  }

  @Test
  void theManifestAndTheScriptNameWhatExists() throws Exception {
    DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
    factory.setNamespaceAware(true);
    org.w3c.dom.Document found =
        factory.newDocumentBuilder().parse(MODULE.resolve("src/main/AndroidManifest.xml").toFile());
    org.w3c.dom.Element activity = (org.w3c.dom.Element) found.getElementsByTagName("activity").item(0);
    String name = activity.getAttributeNS("http://schemas.android.com/apk/res/android", "name");
    assertEquals(SampleActivity.class, Class.forName(name));
    String script = new String(Files.readAllBytes(MODULE.resolve("build.gradle")), StandardCharsets.UTF_8);
    assertTrue(script.contains("abiFilters 'arm64-v8a', 'x86_64'")); // those that :bridge builds its library for
    assertFalse(script.contains("org.tensorflow:"), "libraries for pages of 4 KB");
    assertFalse(script.contains("../"), "the adapter is :bridge's; twice the same class does not build");
    String bridge = new String(Files.readAllBytes(MODULE.resolve("../bridge/build.gradle")), StandardCharsets.UTF_8);
    Matcher runtime = Pattern.compile("implementation '(com\\.google[^']+)'").matcher(script);
    assertTrue(runtime.find());
    assertTrue(bridge.contains("compileOnly '" + runtime.group(1) + "'"), "the adapter is compiled against another version");
    Path settings = MODULE.resolve("../settings.gradle");
    Matcher included = Pattern.compile("':(\\w+)'").matcher(new String(Files.readAllBytes(settings), StandardCharsets.UTF_8));
    int count = 0;
    while (included.find()) {
      assertTrue(Files.exists(settings.resolveSibling(included.group(1)).resolve("build.gradle")), included.group(1));
      count++;
    }
    assertEquals(2, count);
  }
}
