//! A chat that fills the terminal: `ratatui_chat MODEL`. Enter sends, Escape stops an answer or, between answers, ends.
//!
//! The model computes on a thread of its own, so that the screen stays alive; a [`finermoe::Cancel`] stops it.

use clap::Parser;
use finermoe::{Cancel, ErrorCode, Message, Model};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Paragraph, Wrap};
use ratatui::{DefaultTerminal, Frame};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Talks with a model, in the whole terminal.
#[derive(Parser)]
struct Arguments {
    /// Folder of the model, or a single file
    model: PathBuf,
}

/// What the computing thread tells the screen.
enum News {
    Piece(String),
    Done,
    Failed(String),
}

/// Answers conversations until there are no more.
fn answer(model: Model, cancel: Cancel, questions: Receiver<Vec<Message>>, news: Sender<News>) {
    let run = || -> finermoe::Result<()> {
        let mut session = model.session().cancel(&cancel).create()?;
        for messages in &questions {
            for event in session.chat(&messages)?.start()? {
                let piece = match event {
                    Ok(event) => event.text,
                    Err(error) if error.code() == ErrorCode::Cancelled => break,
                    Err(error) => return Err(error),
                };
                if news.send(News::Piece(piece)).is_err() {
                    return Ok(()); // nobody listens
                }
            }
            news.send(News::Done).ok();
        }
        Ok(())
    };
    if let Err(error) = run() {
        news.send(News::Failed(error.to_string())).ok();
    }
}

struct App {
    messages: Vec<Message>,
    input: String,
    answering: bool,
    status: String,
    cancel: Cancel,
    questions: Sender<Vec<Message>>,
    news: Receiver<News>,
}

impl App {
    fn new(model: Model) -> finermoe::Result<Self> {
        let cancel = Cancel::new()?;
        let (questions, asked) = channel();
        let (tell, news) = channel();
        let flag = cancel.clone();
        std::thread::spawn(move || answer(model, flag, asked, tell));
        let (messages, input, status) = (Vec::new(), String::new(), String::new());
        Ok(App { messages, input, answering: false, status, cancel, questions, news })
    }

    /// False when the program is to end.
    fn press(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Esc if self.answering => self.cancel.request(),
            KeyCode::Esc => return false,
            KeyCode::Enter if !self.answering && !self.input.is_empty() => self.send(),
            KeyCode::Char(typed) => self.input.push(typed),
            KeyCode::Backspace => drop(self.input.pop()),
            _ => {}
        }
        true
    }

    fn send(&mut self) {
        self.messages.push(Message::user(std::mem::take(&mut self.input)));
        self.cancel.reset();
        self.answering = self.questions.send(self.messages.clone()).is_ok();
        self.messages.push(Message::assistant(""));
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Piece(text) => {
                if let Some(last) = self.messages.last_mut() {
                    last.content += &text;
                }
            }
            News::Done => self.answering = false,
            News::Failed(why) => (self.answering, self.status) = (false, why),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(3)]).areas(frame.area());
        let mut text = Text::default();
        for message in &self.messages {
            let style = if message.role == "user" { Style::new().bold() } else { Style::new() };
            text.extend(message.content.lines().map(|line| Line::from(Span::styled(line, style))));
        }
        text.push_line(self.status.as_str().red());
        let transcript = Paragraph::new(text).wrap(Wrap { trim: false });
        // The end of the conversation stays in sight.
        let hidden = self.messages.iter().map(|message| message.content.len() / usize::from(above.width.max(1)) + 1);
        let scroll = hidden.sum::<usize>().saturating_sub(above.height.into());
        frame.render_widget(transcript.scroll((scroll.try_into().unwrap_or(u16::MAX), 0)), above);

        let title = if self.answering { " Escape stops " } else { " Enter sends, Escape ends " };
        frame.render_widget(Paragraph::new(self.input.as_str()).block(Block::bordered().title(title)), below);
    }
}

fn run(mut terminal: DefaultTerminal, mut app: App) -> std::io::Result<()> {
    loop {
        while let Ok(news) = app.news.try_recv() {
            app.hear(news);
        }
        terminal.draw(|frame| app.draw(frame))?;
        if event::poll(Duration::from_millis(30))? {
            if let Event::Key(KeyEvent { code, kind: KeyEventKind::Press, .. }) = event::read()? {
                if !app.press(code) {
                    return Ok(());
                }
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::new(Model::open(Arguments::parse().model)?)?;
    let result = run(ratatui::init(), app);
    ratatui::restore();
    Ok(result?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn app() -> App {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
        App::new(Model::builder(path).threads(1).open().unwrap()).unwrap()
    }

    fn ask(app: &mut App, question: &str) {
        question.chars().for_each(|typed| assert!(app.press(KeyCode::Char(typed))));
        app.press(KeyCode::Enter);
        assert!(app.answering && app.input.is_empty());
    }

    fn hear_all(app: &mut App) {
        while app.answering {
            let news = app.news.recv().unwrap();
            app.hear(news);
        }
    }

    fn screen(app: &App) -> String {
        let mut terminal = Terminal::new(TestBackend::new(40, 12)).unwrap();
        terminal.draw(|frame| app.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_question_is_answered_on_the_screen() {
        let mut app = app();
        assert!(screen(&app).contains("Enter sends"));
        ask(&mut app, "Define the noun \"lighthouse\".");
        assert!(screen(&app).contains("Escape stops"));
        hear_all(&mut app);
        let shown = screen(&app);
        assert!(shown.contains("Define the noun") && shown.contains("A tower with a light"), "{shown}");
        ask(&mut app, "Define the noun \"compass\".");
        hear_all(&mut app);
        assert_eq!(app.messages.len(), 4);
        assert!(app.messages[3].content.contains("direction"));
        assert!(!app.press(KeyCode::Esc));
    }

    #[test]
    fn escape_stops_an_answer_and_the_next_question_works() {
        let mut app = app();
        ask(&mut app, "Define the noun \"ship\".");
        app.press(KeyCode::Esc);
        hear_all(&mut app);
        assert!(app.cancel.is_requested() && app.status.is_empty());
        ask(&mut app, "Define the noun \"lighthouse\".");
        hear_all(&mut app);
        assert!(app.messages[3].content.contains("tower"), "{:?}", app.messages);
    }
}
