package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.View;
import java.io.File;

/** Not Android's: see Context. */
public class Activity extends Context {
  public static File files; // what getNoBackupFilesDir gives
  public View content;

  @Override
  public File getNoBackupFilesDir() {
    return files;
  }

  public void setContentView(View view) {
    content = view;
  }

  protected void onCreate(Bundle saved) {}

  protected void onResume() {}

  protected void onPause() {}
}
