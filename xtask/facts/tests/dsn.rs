//! DSNs taken apart, and put together so that they are read as the same.

use ory_facts::dsn::Dsn;

fn parse(text: &str) -> Dsn {
    Dsn::parse(text).expect("a DSN")
}

#[test]
fn a_dsn_comes_apart_and_its_password_may_hold_what_go_allows() {
    let dsn = parse("postgres://ory:p@:+&=!$;%2F@db/kratos?sslmode=disable&max_conns=20");
    assert_eq!((dsn.user.as_str(), dsn.password.as_str()), ("ory", "p@:+&=!$;/"));
    assert_eq!((dsn.host.as_str(), dsn.port, dsn.database.as_str()), ("db", 5432, "kratos"));
}

#[test]
fn psql_gets_what_it_knows_and_the_server_gets_the_rest() {
    let dsn = parse("postgres://a:b@h:1/d?sslmode=disable&max_conns=20&search_path=kratos");
    let env = dsn.environment();
    let value = |name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("PGSSLMODE"), Some("disable"));
    assert_eq!(value("PGOPTIONS"), Some("-c search_path=kratos"));
}

#[test]
fn the_files_of_a_connection_are_those_that_it_names_by_their_path() {
    let dsn = parse("postgres://a@h/d?sslmode=verify-full&sslrootcert=%2Frun%2Fsecrets%2Fca.crt&sslkey=/k");
    assert_eq!(dsn.files().collect::<Vec<_>>(), ["/run/secrets/ca.crt", "/k"]);
    assert_eq!(parse("postgres://a@h/d?sslrootcert=system").files().count(), 0);
}

#[test]
fn another_database_keeps_all_the_rest_as_it_was_written() {
    for (text, other) in [
        ("postgres://a:p%2F@h:1/d?sslmode=disable", "postgres://a:p%2F@h:1/x?sslmode=disable"),
        ("postgres://h?search_path=a/b", "postgres://h/x?search_path=a/b"),
        ("postgres://a@h", "postgres://a@h/x"),
    ] {
        let dsn = parse(text).with_database("x");
        assert_eq!((dsn.url(), dsn.database.as_str()), (other, "x"));
        assert_eq!(dsn, parse(other));
    }
}

#[test]
fn a_name_is_written_so_that_it_is_read_as_the_same() {
    let names =
        ["a%b", "a%20b", "a/b", "a?b#c", "a b", "a+b", "a&b=c", "a@b:c", "\"q\"", "it's", "é語", "[x]", "\\"];
    let more = ["postgres://x", "a\tb\n", "..", "`{|}^<>", "$user", "a;b", ",", "${x}"];

    for text in ["postgres://u:p%2F@h:1/d?sslmode=disable&search_path=s", "postgres://h", "postgres://h/?a=b"]
    {
        for name in names.into_iter().chain(more) {
            let own = parse(text);
            let dsn = own.with_database(name).with_login(name, name).with_search_path(name);
            let read = parse(dsn.url());
            assert_eq!(dsn, read, "{name}");
            assert_eq!([&read.database, &read.user, &read.password], [name; 3], "{}", dsn.url());
            assert_eq!(read.search_path().as_deref(), Some(name));
            assert_eq!((&read.host, read.port, read.sslmode()), (&own.host, own.port, own.sslmode()));
        }
    }
    let encoded = parse("postgres://h/d?search%5Fpath=a&x=y").with_search_path("b");
    assert_eq!(encoded.url(), "postgres://h/d?x=y&search_path=b");
}

#[test]
fn schemas_are_read_as_postgresql_reads_them() {
    for (parameter, schemas) in [
        ("search_path=a,b", &["a", "b"][..]),
        ("search_path=a,%20public", &["a", "public"]),
        ("search_path=%22A%20b%22,Public", &["A b", "public"]),
        ("search_path=%22a%22%22,b%22", &["a\",b"]),
        ("search_path=%22$user%22,public", &["u", "public"]),
        ("options=-csearch_path%3Da", &["a"]),
        ("options=-c%20search_path%3Da,%5C%20b%20--work-mem%3D4MB", &["a", "b"]),
        ("options=--search-path%3Da%20-c%20search_path%3Db", &["b"]),
        ("search_path=a&options=-csearch_path%3Db", &["a"]),
        ("search_path=", &[]),
        ("search_path=%22%22", &[]),
    ] {
        let dsn = parse(&format!("postgres://u:p@h/d?{parameter}"));
        assert_eq!(dsn.schemas().unwrap_or_default(), schemas, "{parameter}");
    }
    assert_eq!(parse("postgres://u:p@h/d").schemas(), None);
    assert_eq!(parse("postgres://h/d?search_path=a,,b").schemas(), None);
}

#[test]
fn the_server_gets_each_setting_as_one_word_and_options_first() {
    let dsn = parse("postgres://h/d?search_path=%22A%20b%22,%09c%5Cd&options=-c%20work_mem%3D5MB&sslsni=0");
    let env = dsn.environment();
    let value = |name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("PGOPTIONS"), Some("-c work_mem=5MB -c search_path=\"A\\ b\",\\\tc\\\\d"));
    assert_eq!(value("PGSSLSNI"), Some("0"));
}

#[test]
fn another_login_and_another_path_leave_the_rest_as_it_was_written() {
    let dsn = parse("postgres://a:p%2F@x@h:1/d?sslmode=disable&search_path=s&max_conns=2");
    let other = dsn.with_login("kratos", "Geheim1").with_search_path("kratos,public");
    let text = "postgres://kratos:Geheim1@h:1/d?sslmode=disable&max_conns=2&search_path=kratos,public";
    assert_eq!(other.url(), text);
    assert_eq!(other, parse(text));
    assert_eq!(parse("postgres://h").with_login("a", "b").url(), "postgres://a:b@h");
    assert_eq!(parse("postgres://h/d").with_search_path("a").url(), "postgres://h/d?search_path=a");
}

#[test]
fn two_products_share_a_place_when_server_database_and_schema_are_equal() {
    let kratos = parse("postgres://kratos:a@db/ory");
    assert_eq!(kratos.place(), parse("postgres://hydra:b@db:5432/ory?search_path=public").place());
    assert_ne!(kratos.place(), parse("postgres://hydra:b@db:5432/ory?search_path=hydra").place());
    assert_ne!(kratos.place(), parse("postgres://hydra:b@db:5432/hydra").place());
}

#[test]
fn each_fault_of_a_dsn_is_named_without_its_password() {
    for (text, fault) in [
        ("memory", "memory"),
        ("postgres://${USER}@db/d", "isn't expanded"),
        ("db:5432/kratos", "no scheme"),
        ("mysql://a:b@db/d", "mysql://"),
        ("postgres://a:geheim/x@db/d", "must be percent-encoded"),
        ("postgres://a:geheim#x@db/d", "must be percent-encoded"),
        ("postgres://a:ge@heim/x@db/d", "must be percent-encoded"),
        ("postgres://a:geheim%zz@db/d", "`%25`"),
        ("postgres://a:ge heim@db/d", "must be percent-encoded"),
    ] {
        let error = Dsn::parse(text).expect_err(text);
        assert!(error.contains(fault), "{text}: {error}");
        assert!(!error.contains("geheim"), "{text}: {error}");
    }
}

#[test]
fn printing_a_dsn_does_not_print_its_password() {
    assert_eq!(format!("{:?}", parse("postgres://a:geheim@db/d")), "a@db:5432/d");
}
