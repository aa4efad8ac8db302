fn main() -> std::process::ExitCode {
    cirrus_learn::job::app().main()
}
