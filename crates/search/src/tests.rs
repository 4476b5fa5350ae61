//! What the catalogue finds, for whom, and what survives on disk.

use std::fs;

use model::{ApiId, TenantId};
use tempfile::TempDir;

use crate::{
    CatalogueEntry, CatalogueIndex, Change, HighlightedField, Label, Query, Results, Viewer,
    Visibility, index::LAYOUT,
};

fn api(number: u128) -> ApiId {
    ApiId::from_bits(number)
}

fn tenant(number: u128) -> TenantId {
    TenantId::from_bits(number)
}

/// An entry that everyone may see.
fn entry(number: u128, name: &str, description: &str) -> CatalogueEntry {
    CatalogueEntry {
        api: api(number),
        name: name.to_owned(),
        description: description.to_owned(),
        owner: "North Clinic".to_owned(),
        tags: Vec::new(),
        categories: Vec::new(),
        personal_data: "none",
        status: "active",
        operations: String::new(),
        visible_to: Visibility { everyone: true, tenants: Vec::new() },
        updated: i64::try_from(number).unwrap(),
    }
}

/// The values of a label among the hits.
fn values(results: &Results, label: Label) -> Vec<(String, u64)> {
    results.facets.get(&label).cloned().unwrap_or_default()
}

fn query(text: &str) -> Query {
    Query { text: text.to_owned(), viewer: Viewer::Anonymous, only: Vec::new(), page: 0, limit: 20 }
}

struct Catalogue {
    index: CatalogueIndex,
    _folder: TempDir,
}

impl Catalogue {
    fn new(entries: Vec<CatalogueEntry>) -> Self {
        let folder = TempDir::new().unwrap();
        let index = CatalogueIndex::open(folder.path()).unwrap();
        let changes: Vec<Change> = entries.into_iter().map(Change::put).collect();
        index.apply(&changes, 1).unwrap();
        Self { index, _folder: folder }
    }

    fn search(&self, query: &Query) -> Results {
        self.index.search(query).unwrap()
    }

    /// What a text finds, best first.
    fn found(&self, text: &str) -> Vec<u128> {
        self.search(&query(text)).hits.into_iter().map(|hit| hit.api.bits()).collect()
    }
}

#[test]
fn name_counts_more_than_tags_than_description_than_operations() {
    let tagged = CatalogueEntry { tags: vec!["lab".to_owned()], ..entry(2, "Bloods", "") };
    let operating =
        CatalogueEntry { operations: "GET /lab List lab".to_owned(), ..entry(4, "Wards", "") };
    let catalogue = Catalogue::new(vec![
        operating,
        entry(3, "Orders", "Orders for the lab, from the lab, to the lab"),
        tagged,
        entry(1, "Lab of the university hospital with a long name", ""),
        entry(5, "Pharmacy", "Nothing of interest"),
    ]);
    assert_eq!(catalogue.found("lab"), [1, 2, 3, 4]);
}

#[test]
fn words_are_found_by_their_stem() {
    let catalogue = Catalogue::new(vec![entry(1, "Prescribing medicines", "")]);
    for text in ["prescribe", "medicine", "PRESCRIBES", "the prescribed medicines"] {
        assert_eq!(catalogue.found(text), [1], "{text}");
    }
}

#[test]
fn long_words_are_found_with_a_typing_error_but_after_exact_ones() {
    let catalogue = Catalogue::new(vec![
        entry(1, "Claim forms", ""),
        entry(2, "Clam diving", ""),
        entry(3, "Pharmacy", ""),
        entry(4, "Pharmacies near you", "Every pharmacy"),
    ]);
    assert_eq!(catalogue.found("pharmcay "), [3, 4]);
    assert_eq!(catalogue.found("claim "), [1, 2]);
    assert_eq!(catalogue.found("clam "), [2]);
}

#[test]
fn the_last_word_is_a_prefix() {
    let catalogue = Catalogue::new(vec![
        entry(1, "Immunisation records", ""),
        entry(2, "Imaging", "For immunologists"),
    ]);
    assert_eq!(catalogue.found("immuno"), [2]);
    assert_eq!(catalogue.found("imm"), [1, 2]);
    assert_eq!(catalogue.found("imm records"), []);
    assert_eq!(catalogue.found("records imm"), [1]);
}

#[test]
fn most_of_many_words_are_enough() {
    let catalogue =
        Catalogue::new(vec![entry(1, "Lab results", "Delivered daily"), entry(2, "Lab", "Orders")]);
    assert_eq!(catalogue.found("lab results"), [1]);
    assert_eq!(catalogue.found("daily lab results portal"), [1]);
}

#[test]
fn what_is_not_visible_is_not_found_counted_or_suggested() {
    let private = CatalogueEntry {
        visible_to: Visibility { everyone: false, tenants: vec![tenant(7)] },
        categories: vec!["Oncology".to_owned()],
        tags: vec!["trial".to_owned()],
        ..entry(1, "Chemotherapy", "")
    };
    let catalogue = Catalogue::new(vec![private, entry(2, "Wards", "")]);
    let ask = |text: &str, viewer| catalogue.search(&Query { viewer, ..query(text) });

    for viewer in [Viewer::Anonymous, Viewer::Tenant(tenant(8))] {
        assert_eq!(ask("chemotherapy", viewer), Results::default());
        assert_eq!(ask("chemotheraaapy", viewer), Results::default());
        let all = ask("", viewer);
        assert_eq!(all.total, 1);
        assert_eq!(values(&all, Label::Category), []);
        assert_eq!(values(&all, Label::Tag), []);
        assert_eq!(values(&all, Label::Owner), [("North Clinic".to_owned(), 1)]);
    }
    for viewer in [Viewer::Everything, Viewer::Tenant(tenant(7))] {
        assert_eq!(ask("chemotherapy", viewer).total, 1);
        assert_eq!(ask("chemotheraaapy", viewer).suggestions, ["chemotherapy"]);
        assert_eq!(values(&ask("", viewer), Label::Category), [("Oncology".to_owned(), 1)]);
    }
}

#[test]
fn facets_count_all_hits_and_filters_narrow_them() {
    let entries = (1..=5).map(|number| CatalogueEntry {
        categories: vec![if number < 4 { "Labs/Blood" } else { "Imaging" }.to_owned()],
        tags: vec![format!("t{}", number % 2), "shared".to_owned()],
        ..entry(number, "Service", "")
    });
    let catalogue = Catalogue::new(entries.collect());
    let results = catalogue.search(&Query { limit: 1, ..query("service") });
    assert_eq!((results.hits.len(), results.total), (1, 5));
    assert_eq!(
        values(&results, Label::Category),
        [("Labs/Blood".to_owned(), 3), ("Imaging".to_owned(), 2)]
    );
    let tags = [("shared".to_owned(), 5), ("t1".to_owned(), 3), ("t0".to_owned(), 2)];
    assert_eq!(values(&results, Label::Tag), tags);
    assert_eq!(values(&results, Label::PersonalData), [("none".to_owned(), 5)]);
    assert_eq!(values(&results, Label::Status), [("active".to_owned(), 5)]);

    let narrowed = |only: &[(Label, &str)]| {
        let only = only.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        catalogue.search(&Query { only, ..query("") }).total
    };
    assert_eq!(narrowed(&[(Label::Category, "Labs/Blood")]), 3);
    assert_eq!(narrowed(&[(Label::Category, "Labs/Blood"), (Label::Tag, "t1")]), 2);
    assert_eq!(narrowed(&[(Label::Tag, "t1"), (Label::Tag, "t0")]), 0);
    assert_eq!(narrowed(&[(Label::Category, "Labs")]), 0);
    assert_eq!(narrowed(&[(Label::Category, "")]), 0);
    assert_eq!(narrowed(&[(Label::Owner, "North Clinic"), (Label::Status, "active")]), 5);
    assert_eq!(narrowed(&[(Label::Owner, "active")]), 0);
    assert_eq!(narrowed(&[(Label::PersonalData, "phi")]), 0);
}

#[test]
fn without_words_everything_is_listed_newest_first_in_pages() {
    let catalogue = Catalogue::new((1..=5).map(|number| entry(number, "Service", "")).collect());
    assert_eq!(catalogue.found(""), [5, 4, 3, 2, 1]);
    let page = |page| {
        let results = catalogue.search(&Query { page, limit: 2, ..query(" ") });
        results.hits.into_iter().map(|hit| hit.api.bits()).collect::<Vec<_>>()
    };
    assert_eq!([page(0), page(1), page(2), page(3)], [vec![5, 4], vec![3, 2], vec![1], vec![]]);
    assert_eq!(catalogue.search(&Query { limit: 0, ..query("") }).total, 5);
}

#[test]
fn highlights_say_where_the_words_are() {
    let long = format!(
        "{} Les résultats: lab results & <b>reports</b>. {}",
        "x ".repeat(100),
        "y ".repeat(300)
    );
    let catalogue = Catalogue::new(vec![entry(1, "Results of labs", &long)]);
    let hit = catalogue.search(&query("lab rsults")).hits.remove(0);
    let shown = |field| {
        let highlight = hit.highlights.iter().find(|one| one.field == field)?;
        let marked = highlight.ranges.iter().map(|range| &highlight.fragment[range.clone()]);
        Some((highlight.fragment.len(), marked.collect::<Vec<_>>()))
    };
    assert_eq!(shown(HighlightedField::Name), Some((15, vec!["Results", "labs"])));
    let (length, marked) = shown(HighlightedField::Description).unwrap();
    assert!(length <= 200);
    assert_eq!(marked, ["lab", "results"]);
    assert_eq!(shown(HighlightedField::Operations), None);
}

#[test]
fn misspelt_short_words_and_badly_misspelt_long_ones_are_suggested() {
    let catalogue = Catalogue::new(vec![entry(1, "Radiology beds", "")]);
    assert_eq!(catalogue.search(&query("rodiolgy beda ")).suggestions, ["radiology beds"]);
    assert_eq!(catalogue.search(&query("zzzzzz")).suggestions, Vec::<String>::new());
    assert_eq!(catalogue.search(&query("radiology")).suggestions, Vec::<String>::new());
}

#[test]
fn odd_texts_find_nothing_and_fail_at_nothing() {
    let catalogue = Catalogue::new(vec![entry(1, "Wards", "")]);
    for text in ["\0", "😀", "*", "a AND (b", "\"", &"word ".repeat(1000), &"x".repeat(100_000)] {
        let results = catalogue.search(&query(text));
        assert!(results.total <= 1);
    }
    let odd = CatalogueEntry {
        tags: vec![String::new(), "\0".to_owned(), "a\0b".to_owned()],
        ..entry(2, "Odd", "")
    };
    catalogue.index.apply(&[Change::put(odd)], 2).unwrap();
    let found = catalogue.search(&query("odd"));
    assert_eq!(values(&found, Label::Tag), [("a b".to_owned(), 1)]);
}

#[test]
fn a_later_put_replaces_and_a_removal_removes() {
    let catalogue = Catalogue::new(vec![entry(1, "Wards", "")]);
    let changes = [
        Change::put(entry(1, "Beds", "")),
        Change::put(entry(1, "Rooms", "")),
        Change::put(entry(2, "Halls", "")),
        Change::Remove(api(2)),
        Change::Remove(api(3)),
    ];
    catalogue.index.apply(&changes, 9).unwrap();
    assert_eq!(catalogue.found("wards"), []);
    assert_eq!(catalogue.found("rooms"), [1]);
    assert_eq!(catalogue.found(""), [1]);
    assert_eq!(catalogue.index.position(), 9);
}

#[test]
fn entries_and_position_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let index = CatalogueIndex::open(folder.path()).unwrap();
    assert_eq!(index.position(), 0);
    for number in 1..=20_u64 {
        let put = Change::put(entry(u128::from(number), "Wards", ""));
        index.apply(&[put], number).unwrap();
    }
    drop(index);
    let index = CatalogueIndex::open(folder.path()).unwrap();
    assert_eq!(index.position(), 20);
    assert_eq!(index.search(&query("wards")).unwrap().total, 20);
    index.apply(&[], 21).unwrap();
    assert_eq!(index.position(), 21);
}

#[test]
fn a_damaged_index_is_made_anew_and_other_files_stay() {
    let segment = |folder: &TempDir| {
        let files = fs::read_dir(folder.path()).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().find(|path| path.extension().is_some_and(|end| end == "store")).unwrap()
    };
    let damages: [&dyn Fn(&TempDir); 5] = [
        &|folder| fs::write(folder.path().join("meta.json"), "{").unwrap(),
        &|folder| fs::remove_file(segment(folder)).unwrap(),
        &|folder| fs::write(segment(folder), "short").unwrap(),
        &|folder| {
            let path = segment(folder);
            let mut bytes = fs::read(&path).unwrap();
            bytes[0] ^= 0xFF;
            fs::write(path, bytes).unwrap();
        },
        &|folder| {
            let path = folder.path().join("meta.json");
            let meta = fs::read_to_string(&path).unwrap();
            let older = meta.replace(&format!("\"{LAYOUT}:5\""), "\"0:5\"");
            assert_ne!(older, meta);
            fs::write(path, older).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("keep.txt"), "mine").unwrap();
        let index = CatalogueIndex::open(folder.path()).unwrap();
        index.apply(&[Change::put(entry(1, "Wards", ""))], 5).unwrap();
        drop(index);
        damage(&folder);

        let index = CatalogueIndex::open(folder.path()).unwrap();
        assert_eq!(index.position(), 0, "damage {number}");
        assert_eq!(index.search(&query("")).unwrap().total, 0, "damage {number}");
        index.apply(&[Change::put(entry(1, "Wards", ""))], 6).unwrap();
        assert_eq!(index.search(&query("ward")).unwrap().total, 1, "damage {number}");
        assert!(folder.path().join("keep.txt").exists());
    }
}

#[test]
fn nothing_of_a_failed_change_is_kept() {
    let folder = TempDir::new().unwrap();
    let index = CatalogueIndex::open(folder.path()).unwrap();
    index.apply(&[Change::put(entry(1, "Wards", ""))], 1).unwrap();
    // Another process that writes makes this one fail.
    let other = CatalogueIndex::open(folder.path()).unwrap();
    let held: tantivy::IndexWriter = other.index.writer_with_num_threads(1, 15_000_000).unwrap();
    assert!(index.apply(&[Change::put(entry(2, "Beds", ""))], 2).is_err());
    assert_eq!((index.position(), index.search(&query("")).unwrap().total), (1, 1));
    drop(held);
    index.apply(&[Change::put(entry(2, "Beds", ""))], 2).unwrap();
    assert_eq!((index.position(), index.search(&query("")).unwrap().total), (2, 2));
}

#[test]
fn what_a_killed_commit_left_behind_does_not_stop_the_next_one() {
    let folder = TempDir::new().unwrap();
    let index = CatalogueIndex::open(folder.path()).unwrap();
    let put = [Change::put(entry(1, "Beds", "")), Change::put(entry(2, "Slots", ""))];
    index.apply(&put, 1).unwrap();
    drop(index);
    let segment = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find_map(|name| name.strip_suffix(".store").map(str::to_owned))
        .unwrap();
    for operation in 1..50 {
        fs::write(folder.path().join(format!("{segment}.{operation}.del")), "half").unwrap();
    }

    let index = CatalogueIndex::open(folder.path()).unwrap();
    assert_eq!(index.position(), 1);
    index.apply(&[Change::put(entry(1, "Wards", ""))], 2).unwrap();
    assert_eq!(index.search(&query("wards")).unwrap().total, 1);
    assert_eq!(index.search(&query("beds")).unwrap().total, 0);
}
