import finermoe.*;

/** Defines a word with a FineRMoE model: Define MODEL. */
public class Define {
  public static void main(String[] args) {
    try (var model = new Model(); var session = new Session(); var tokenizer = new Tokenizer(); var chat = new Chat();
         var generation = new Generation(); var request = new Generation(); var cancel = new Cancel();
         var event = new Event()) {
      Finermoe.modelOpen(args[0], null, model);
      Finermoe.sessionCreate(model, null, session);
      Finermoe.chatCreate(chat);
      Finermoe.chatAdd(chat, "user", "Define the noun \"lighthouse\".");
      int[][] ids = {null};
      Finermoe.tokenizerOpenModel(model, tokenizer);
      Finermoe.chatEncode(chat, tokenizer, Finermoe.TEXT_DEFAULT, ids);
      Finermoe.generationCreate(session, null, ids[0], generation);
      while (event.getFinishReason() == Finermoe.FINISH_NONE) {
        Finermoe.generationNext(generation, null, event);
        System.out.print(event.getText());
      }
      System.out.println();

      try (var missing = new Model()) {
        Finermoe.modelOpen("/no/such/model", null, missing);
      } catch (FinermoeException error) {
        System.out.println("error " + Finermoe.statusName(error.code));
      }

      Finermoe.cancelCreate(cancel);
      Finermoe.cancelRequest(cancel);
      Finermoe.sessionReset(session);
      Finermoe.generationCreateChat(session, null, chat, 0, request);
      try {
        Finermoe.generationNext(request, cancel, event);
      } catch (FinermoeException error) {
        System.out.println("cancelled " + Finermoe.statusName(error.code));
      }
      Finermoe.modelClose(model);
    } // everything is freed here; any order would do
    System.out.println("closed");
  }
}
