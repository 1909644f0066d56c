use super::*;

const OWN: u32 = 990;

fn tenants(text: &str, served: &Served) -> Tenants {
    let said = file::read(&format!("version = 1\n{text}"), OWN).unwrap();
    Tenants::of_file(said, served, OWN)
}

fn faults(text: &str) -> String {
    let faults = file::read(text, OWN).unwrap_err();
    Faults { whose: "tenants.toml", faults: &faults }.to_string()
}

fn name(tenant: Option<Arc<Tenant>>) -> Option<(String, bool)> {
    tenant.map(|tenant| (tenant.id.to_string(), tenant.operator))
}

fn told(name: &str, operator: bool) -> Option<(String, bool)> {
    Some((name.to_owned(), operator))
}

#[test]
fn without_a_file_there_are_operators_and_those_who_are_allowed() {
    let served = Served { uids: vec![1000, 0], all: false };
    let none = tenants("", &served);
    assert_eq!(name(none.of(0)), told("operator", true));
    assert_eq!(name(none.of(OWN)), told("operator", true));
    assert_eq!(name(none.of(1000)), told("uid-1000", false));
    assert_eq!(name(none.of(1001)), None);
    let all = tenants("", &Served { uids: Vec::new(), all: true });
    assert_eq!(name(all.of(1001)), told("uid-1001", false));
    assert_eq!(all.of(1001).unwrap().uids, [1001].into());
    assert_eq!(all.named(&TenantId::operator()).uids, [0, OWN].into());
    assert!(Arc::ptr_eq(&all.of(1001).unwrap(), &all.named(&TenantId::of_user(1001))), "counted twice");
}

#[test]
fn file_makes_tenants_of_users_and_sets_caps() {
    let file = "[defaults]\nmax_notebooks = 5\nprofiles = [\"strict\"]\n\
                [tenant.lab]\nuids = [1000, 1001]\nmax_workers = 7\nprofiles = [\"default\", \"data-science\"]\n\
                [tenant.ops]\nuids = [1002]\noperator = true\n\
                [tenant.uid-1003]\nmax_queued = 3\n\
                [total]\nmax_workers = 100\n";
    let tenants = tenants(file, &Served { uids: vec![1004], all: false });
    let lab = tenants.of(1000).unwrap();
    assert!(Arc::ptr_eq(&lab, &tenants.of(1001).unwrap()));
    assert_eq!((lab.limits.notebooks, lab.limits.workers, lab.limits.queued), (5, 7, DEFAULTS.queued));
    assert!(lab.may_have("data-science") && !lab.may_have("strict"));
    assert_eq!(lab.default_profile(), "default");
    let ops = tenants.of(1002).unwrap();
    assert!(ops.operator && ops.may_have("trusted"));
    assert_eq!(ops.limits, TenantLimits::default());
    assert_eq!(tenants.of(1003).unwrap().limits.queued, 3);
    let other = tenants.of(1004).unwrap();
    assert_eq!((other.limits.notebooks, other.default_profile()), (5, "strict"));
    assert_eq!(tenants.total().workers, 100);
    let names: Vec<_> = tenants.all().iter().map(|tenant| tenant.id.to_string()).collect();
    assert_eq!(names, ["lab", "operator", "ops", "uid-1003", "uid-1004"]);
}

#[test]
fn what_makes_no_sense_is_told_with_its_place_and_the_cure() {
    let told = faults(
        "version = 1\nsecret = 1\n[defaults]\nmax_notebooks = 0\nuids = [3]\nprofiles = []\n\
         [tenant.a]\nuids = [7, 7, 0, \"bob\", 990]\noperator = 1\nmax_buffered_bytes = 5\n\
         [tenant.b]\nuids = [7]\nmax_workers = 2000000\nprofiles = [\"../x\"]\n\
         [tenant.\"no name\"]\n[tenant.uid-5]\nuids = [6]\n[tenant.uid-05]\n[tenant.operator]\noperator = false\n",
    );
    for part in [
        "tenants.toml, line 2, column 1: unknown key \"secret\"; the keys of the file of tenants are version",
        "line 4, column 17: defaults.max_notebooks is 0, it can be 1 to 1000000",
        "line 5, column 1: unknown key \"uids\"; the keys of [defaults] are max_running",
        "line 6, column 12: defaults.profiles is empty, so no notebook could be opened",
        "line 8, column 12: user 7 is named twice",
        "line 8, column 15: user 0 is always an operator: leave it out",
        "line 8, column 18: tenant.a.uids must be a whole number, it is a string",
        "line 8, column 25: user 990 is always an operator",
        "line 9, column 12: tenant.a.operator must be true or false, it is a whole number",
        "line 10, column 22: tenant.a.max_buffered_bytes is 5, it can be 1048576 to",
        "line 12, column 9: user 7 is tenant \"a\" already: one user is one tenant",
        "line 13, column 15: tenant.b.max_workers is 2000000, it can be 1 to 1000000",
        "line 14, column 13: tenant.b.profiles names \"../x\"",
        "line 15, column 9: bad tenant id \"no name\"",
        "line 16, column 9: tenant.uid-5 is the name of one user's tenant",
        "line 18, column 9: tenant.uid-05 is the name of one user's tenant",
        "line 20, column 12: tenant.operator.operator is true whatever is said",
    ] {
        assert!(told.contains(part), "{part}\nis not in\n{told}");
    }
    assert!(faults("x = ").contains("line 1"));
    assert!(faults("").contains("the format's version is missing"));
}

#[test]
fn example_is_a_file_of_tenants_with_and_without_what_is_commented_out() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tenants.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let plain = file::read(&text, OWN).unwrap();
    assert!(plain.tenants.is_empty());
    let lines = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with([' '])).unwrap_or(line));
    let said = file::read(&lines.collect::<Vec<_>>().join("\n"), OWN).unwrap();
    assert_eq!(said.tenants.keys().map(TenantId::as_str).collect::<Vec<_>>(), ["admins", "lab"]);
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let error = Tenants::open(Some(Path::new("/nowhere/tenants.toml")), &Served::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/tenants.toml"), "{error}");
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tenants.toml");
    std::fs::write(&path, "version = 2\n").unwrap();
    let error = Tenants::open(Some(&path), &Served::default()).unwrap_err().to_string();
    assert!(error.contains("tenants.toml, line 1, column 11: version is 2"), "{error}");
}

#[test]
fn caps_of_a_tenant_and_of_all_hold_and_what_is_dropped_comes_back() {
    let tenants = tenants(
        "[total]\nmax_queued = 5\n[defaults]\nmax_queued = 3\nmax_buffered_bytes = 2000000",
        &Served { uids: vec![1, 2, 3], all: false },
    );
    let [one, two, three] = [1, 2, 3].map(|uid| tenants.of(uid).unwrap());
    let mut first = Held::take(&one, Counted::Queued, 2).unwrap();
    first.more(1).unwrap();
    let met = first.more(1).unwrap_err();
    assert_eq!(met, Met { kind: Counted::Queued, most: 3, in_all: false });
    assert!(one.explain(met).contains("tenant \"uid-1\" has 3 executions that wait"), "{}", one.explain(met));
    let second = Held::take(&two, Counted::Queued, 2).unwrap();
    let met = Held::take(&three, Counted::Queued, 1).unwrap_err();
    assert_eq!(met, Met { kind: Counted::Queued, most: 5, in_all: true });
    let told = three.explain(met);
    assert!(told.contains("all tenants together have 5") && !told.contains("uid-"), "{told}");
    assert_eq!((one.uses(Counted::Queued), three.uses(Counted::Queued)), (3, 0));
    first.set(1);
    let third = Held::take(&three, Counted::Queued, 2).unwrap();
    let claimed = Held::claim(&one, Counted::Queued, 9);
    assert_eq!(one.uses(Counted::Queued), 10);
    drop((first, second, third, claimed));
    assert!(tenants.all().iter().all(|tenant| tenant.uses(Counted::Queued) == 0));
    assert_eq!(tenants.total.uses.get(Counted::Queued), 0);

    one.has_room().unwrap();
    let bytes = Held::claim(&one, Counted::Buffered, 2_000_000);
    let met = one.has_room().unwrap_err();
    assert!(one.explain(met).contains("max_buffered_bytes"));
    two.has_room().unwrap();
    drop(bytes);
    one.has_room().unwrap();
}
