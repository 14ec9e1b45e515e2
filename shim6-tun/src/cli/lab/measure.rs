//! `shim6 lab measure`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::lab::measure::{Report, measure};
use crate::lab::{self, Rate};

/// Arguments of `shim6 lab measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// How long to measure, in seconds; some more are spent in between
    #[arg(long, value_name = "N", default_value_t = 28, value_parser = clap::value_parser!(u64).range(7..=3600))]
    seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &MeasureArgs) -> anyhow::Result<ExitCode> {
    lab::enter_user_namespace().context("links are measured in user and network namespaces of their own")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start the runtime")?;
    let report = runtime.block_on(measure(Duration::from_secs(args.seconds)))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let ms = |micros: u64| format!("{:.3} ms", micros as f64 / 1e3);
    writeln!(
        out,
        "Delay       late: half of the packets      99 %           all    early"
    )?;
    for figure in &report.delays {
        writeln!(
            out,
            "{:>8}{:>30}{:>12}{:>12}{:>9}",
            format!("{} ms", figure.set_us / 1000),
            ms(figure.median_late_us),
            ms(figure.p99_late_us),
            ms(figure.max_late_us),
            figure.early
        )?;
    }
    let (least, most) = report.jitter_us;
    writeln!(
        out,
        "20 ms with a jitter of 5 ms: held for {} to {}",
        ms(least),
        ms(most)
    )?;
    writeln!(out, "\nRate              measured      off by")?;
    for figure in &report.rates {
        let off = (figure.measured as f64 / figure.set as f64 - 1.0) * 100.0;
        let measured = format!("{:.3} Mbit/s", figure.measured as f64 / 1e6);
        writeln!(
            out,
            "{:<12}{measured:>16}{off:>+10.2} %",
            Rate::bits(figure.set).to_string()
        )?;
    }
    let capacity = report.capacity;
    let megabits = capacity.bits as f64 / 1e6;
    writeln!(
        out,
        "none        {megabits:>9.0} Mbit/s, {} packets a second",
        capacity.packets
    )?;
    let (lost, of) = report.lost_of;
    let share = lost as f64 / of.max(1) as f64 * 100.0;
    writeln!(out, "\nLoss of 1 %: {lost} of {of} packets, {share:.3} %")
}
