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
fn a_server_that_is_known_is_one_place_by_whatever_address() {
    let on = |text: &str| parse(text).on_server("db", 5432);
    let (by_alias, by_port) = (on("postgres://kratos:a@pg/ory"), on("postgres://keto:b@localhost:5434/ory"));
    assert_eq!(by_alias.place(), by_port.place());
    assert!(by_alias.is_database_of(&by_port.with_schemas(&["keto"])));
    assert_eq!(by_alias.place(), parse("postgres://pg/ory").at("db", 5432).place());
    assert_ne!(by_alias.at("other", 5432).place(), by_port.place());
    assert_eq!((by_alias.host.as_str(), by_alias.url()), ("pg", "postgres://kratos:a@pg/ory"));
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
        ("postgres://a:geheim@%2Fvar%2Frun/d", "`?host=/folder`"),
        ("postgres://a:geheim@db/d?a=b;c=d", "`;`"),
        ("postgres://a:geheim@db/d?sslmode=disable#x", "`#`"),
        ("postgres://a:geheim@db/d?service=x", "`service`"),
        ("postgres://a@db/d?passfile=/geheim", "`passfile`"),
        ("postgres://a:geheim@db/d?port=x", "`port`"),
        ("POSTGRES://a:geheim@db/d", "POSTGRES://"),
    ] {
        let error = Dsn::parse(text).expect_err(text);
        assert!(error.contains(fault), "{text}: {error}");
        assert!(!error.contains("geheim"), "{text}: {error}");
    }
}

#[test]
fn whatever_the_driver_takes_for_a_place_is_taken() {
    let place = |text: &str| {
        let dsn = parse(text);
        let env = dsn.environment();
        let value = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let names = ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGOPTIONS"];
        names.map(|name| value(name).unwrap_or_default()).join(" ").trim_end().to_string()
    };
    for (text, right) in [
        ("postgres://a:b@[::1]:1/d", "::1 1 a b d"),
        ("postgres://a:b@[fe80::1%25eth0]/d", "fe80::1%eth0 5432 a b d"),
        ("postgres://a:b@one:1,two/d?target_session_attrs=read-write", "one,two 1,5432 a b d"),
        ("postgres://a:b@one,two/d?port=7,8", "one,two 7,8 a b d"),
        ("postgres://a:b@h:/d", "h 5432 a b d"),
        ("postgres:///d?host=h&user=a&password=b", "h 5432 a b d"),
        ("postgres://x:y@z:9/w?host=h&port=1&user=a&password=b&dbname=d", "h 1 a b d"),
        ("postgres://a:b@/d?host=/var/run/postgresql", "/var/run/postgresql 5432 a b d"),
        ("postgres://a:b@h", "h 5432 a b a"),
        ("postgres://a:b@h//d?work_mem=1MB&work_mem=2MB", "h 5432 a b d -c work_mem=1MB"),
        (
            "postgres://a:b@h/d?krbspn=x&passfile=/x&servicefile=/y&pool_max_conns=4&sslpassword=x",
            "h 5432 a b d",
        ),
        ("postgres://a:b@h/d?description_cache_capacity=1&sslnegotiation=direct", "h 5432 a b d"),
    ] {
        assert_eq!(place(text), right, "{text}");
    }
    let enterprise = parse("postgres://a:b@h/d?pool_max_conns=4");
    assert_eq!(
        (enterprise.of_enterprise(), parse("postgres://h").of_enterprise()),
        (Some("pool_max_conns"), None)
    );
}

#[test]
fn what_the_url_does_not_say_is_in_the_environment() {
    let variables =
        [("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "a"), ("PGPASSWORD", "b"), ("PGDATABASE", "d")];
    let variables = variables.into_iter().chain([("PGSSLMODE", "require")]);
    let variables = variables.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let place = |text: &str| {
        let dsn = parse(text).with_variables(&variables);
        format!("{dsn:?} {} {}", dsn.password, dsn.sslmode().unwrap_or_default())
    };
    assert_eq!(place("postgres://"), "a@h:1/d b require");
    assert_eq!(place("postgres://u:p@db:2/x?sslmode=disable"), "u@db:2/x p disable");
    assert_eq!(place("postgres://u@[::1]/"), "u@::1:1/d b require");
}

#[test]
fn another_database_or_login_is_the_one_that_counts() {
    let dsn = parse("postgres://z:y@h/w?dbname=d&user=a&password=b&sslmode=disable");
    for other in
        [dsn.with_database("x"), dsn.with_login("x", "x").with_database("x"), dsn.with_login("x", "x")]
    {
        assert_eq!(parse(other.url()), other, "{}", other.url());
    }
    let named = parse("postgres://a:b@h?sslmode=disable").with_login("x", "y");
    assert_eq!((named.url(), named.database.as_str()), ("postgres://x:y@h/a?sslmode=disable", "a"));
}

#[test]
fn printing_a_dsn_does_not_print_its_password() {
    assert_eq!(format!("{:?}", parse("postgres://a:geheim@db/d")), "a@db:5432/d");
}

#[test]
fn at_another_server_all_but_the_server_stays() {
    for (text, other) in [
        ("postgres://a:b%40@pool:6432/d?sslmode=disable", "postgres://a:b%40@db:5432/d?sslmode=disable"),
        ("postgres://a:b@one:1,two:2/d", "postgres://a:b@db:5432/d"),
        ("postgres:///d?host=/run/pg&port=6432&user=a&password=b", "postgres://db:5432/d?user=a&password=b"),
    ] {
        let dsn = parse(text).at("db", 5432);
        assert_eq!(dsn.url(), other);
        assert_eq!(dsn, parse(other));
    }
}
