//! `dockless history`: the instructions that made an image.

use super::environment::Environment;
use super::{Outcome, format, platform, print};
use crate::images::{self, ImagesError, Step};
use crate::oci::Platform;
use crate::store::Store;
use crate::ui;
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// Docker cuts instructions there.
const CUT: usize = 45;

/// Show the instructions that made an image, newest first
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct HistoryArgs {
    /// How lines are printed: a Go template, 'json' or 'table …'
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Print sizes in bytes and times in full: --human=false
    #[arg(short = 'H', long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", value_name = "BOOL")]
    human: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    /// The image of this platform [default: the host's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Print only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// The image: a name, or an ID or its beginning
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl HistoryArgs {
    /// Prints it.
    pub fn run(self, environment: &Environment, state: &Path) -> Outcome<ExitCode> {
        let wanted = platform(self.platform.as_deref(), environment)?.unwrap_or_else(Platform::host);
        if !state.exists() {
            return Err(ImagesError::NotFound(self.image).into());
        }
        let steps = images::history(&Store::open(state)?, &self.image, &wanted)?;
        let rows: Vec<Value> = steps.iter().map(|step| self.row(step)).collect();
        if self.quiet {
            let ids = rows.iter().map(|row| row["ID"].as_str().unwrap_or_default());
            return print(&ids.map(|id| format!("{id}\n")).collect::<String>());
        }
        let heads = json!({ "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
            "Size": "SIZE", "Comment": "COMMENT" });
        let when = if self.human { "CreatedSince" } else { "CreatedAt" };
        let plain = format!(r"table {{{{.ID}}}}\t{{{{.{when}}}}}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}");
        print(&format::list(self.format.as_deref(), &plain, &heads, &rows)?)
    }

    fn row(&self, step: &Step) -> Value {
        let id = match &step.id {
            Some(id) if self.no_trunc => id.to_string(),
            Some(id) => id.hex()[..12].to_string(),
            None => "<missing>".to_string(),
        };
        let mut made = step.created_by.replace('\t', " ");
        if !self.no_trunc && made.chars().count() > CUT {
            made = made.chars().take(CUT - 1).chain(['…']).collect();
        }
        let size = if self.human { ui::bytes_in(step.size, 3) } else { step.size.to_string() };
        json!({
            "ID": id, "CreatedAt": step.created, "CreatedSince": ui::since(&step.created, SystemTime::now()),
            "CreatedBy": made, "Size": size, "Comment": step.comment,
        })
    }
}
