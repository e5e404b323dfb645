package finermoe;

import java.util.Arrays;

/** Flat results as rows. */
final class Rows {
  private Rows() {}

  static float[] room(long rows, long width) {
    return new float[Math.toIntExact(Math.multiplyExact(rows, width))];
  }

  static int[][] of(int[] flat, long width) {
    final int n = (int) width;
    final int[][] rows = new int[flat.length / n][];
    for (int i = 0; i < rows.length; i++) rows[i] = Arrays.copyOfRange(flat, i * n, (i + 1) * n);
    return rows;
  }

  static float[][] of(float[] flat, long width) {
    final int n = (int) width;
    final float[][] rows = new float[flat.length / n][];
    for (int i = 0; i < rows.length; i++) rows[i] = Arrays.copyOfRange(flat, i * n, (i + 1) * n);
    return rows;
  }
}
