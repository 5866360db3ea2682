package fedagg.sample;

import fedagg.bridge.agent.AgentListener;
import fedagg.bridge.agent.StepReport;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;

/** What the agent tells, a line each, in a file that the activity shows. */
public final class Rounds implements AgentListener {
  private static final int LONGEST = 64 << 10; // bytes of the file: then it starts anew

  private final Path file;

  public Rounds(Path folder) {
    file = folder.resolve("rounds.txt");
  }

  @Override
  public void connected(String parent) {
    write("connected to " + parent);
  }

  @Override
  public void round(long version, int rows, StepReport means) {
    write(
        String.format(
            Locale.ROOT, "round %d: %d samples, loss %.4f, divergence from the edge %.4f", version, rows, means.loss,
            means.divergence));
  }

  @Override
  public void finished() {
    write("the training is over");
  }

  @Override
  public void setAside(int rows) {
    write(rows == 0 ? "nothing is set aside any more" : rows + " rows wait until the parent takes them");
  }

  @Override
  public void refused(String why) {
    write("refused: " + why);
  }

  synchronized void write(String line) {
    try {
      if (Files.exists(file) && Files.size(file) > LONGEST) {
        Files.delete(file);
      }
      Files.write(
          file, (line + "\n").getBytes(StandardCharsets.UTF_8), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    } catch (IOException error) {
      // a line that is not shown is no reason to end the training
    }
  }

  /** All lines that there are. */
  public String text() {
    try {
      return Files.exists(file) ? new String(Files.readAllBytes(file), StandardCharsets.UTF_8) : "no round yet\n";
    } catch (IOException error) {
      return error + "\n";
    }
  }
}
