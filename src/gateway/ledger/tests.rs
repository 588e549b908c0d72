use super::{samples::entry, *};
use crate::{
    protocol::ids::StoreId,
    store::{memory::MemoryStore, sample_books},
};
use serde_json::Value;

async fn store() -> MemoryStore {
    let store = MemoryStore::new(StoreId([1; 16]));
    sample_books::fill(&store).await;
    store
}

async fn all(store: &impl Reading, filter: &Filter, limit: usize) -> Vec<Entry> {
    let (mut entries, mut next) = (Vec::new(), Some(Cursor::default()));
    while let Some(after) = next {
        let page = page(store, filter, after, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        assert!(page.next.is_none_or(|next| next > after), "it goes on");
        entries.extend(page.entries);
        next = page.next;
    }
    entries
}

#[tokio::test]
async fn the_list_has_every_payment_and_every_charge_once_whatever_its_pages() {
    let store = store().await;
    let whole = all(&store, &Filter::default(), usize::MAX).await;
    let states: Vec<&str> = whole.iter().map(|entry| entry.state.as_str()).collect();
    let payments = ["pending", "settled", "delivered", "delivered", "reversed", "paid_late", "delivered", "pending"];
    let charges = [&["claimed"; 6][..], &["charged"], &["lost"; 2], &["charged"; 3]].concat();
    assert_eq!(states, [&payments[..], &charges].concat());
    for limit in [1, 2, 3, 5, 19] {
        assert_eq!(all(&store, &Filter::default(), limit).await, whole, "{limit}");
    }
    let mut cursors: Vec<Cursor> = whole.iter().map(|entry| entry.cursor).collect();
    assert!(cursors.is_sorted());
    cursors.dedup();
    assert_eq!(cursors.len(), whole.len());
    for entry in &whole {
        assert_eq!(entry.cursor.to_string().parse(), Ok(entry.cursor));
        assert_eq!(serde_json::from_value::<Entry>(serde_json::to_value(entry).unwrap()).unwrap(), *entry);
    }
    // The books agree with the store's sums.
    let sum = |states: &[EntryState]| {
        whole.iter().filter(|entry| states.contains(&entry.state)).map(|e| u128::from(e.amount.sompi())).sum::<u128>()
    };
    let (totals, channels) = (store.read_totals().await.unwrap(), store.read_channel_totals().await.unwrap());
    use EntryState::*;
    assert_eq!(sum(&[Settled, Delivered, Reversed]), totals.charged_sompi);
    assert_eq!(sum(&[Charged, Claimed, Lost]), channels.charged_sompi);
    assert_eq!((sum(&[Claimed]), sum(&[Lost])), (channels.claimed_sompi, channels.lost_sompi));
}

#[tokio::test]
async fn a_filter_takes_exactly_what_it_names() {
    let store = store().await;
    let whole = all(&store, &Filter::default(), 100).await;
    let check = async |filter: Filter| {
        let expect: Vec<&Entry> = whole.iter().filter(|entry| filter.takes(entry)).collect();
        for limit in [1, 100] {
            assert_eq!(all(&store, &filter, limit).await.iter().collect::<Vec<_>>(), expect, "{filter:?}");
        }
        expect.len()
    };
    for (state, expect) in EntryState::ALL.into_iter().zip([2, 1, 1, 3, 1, 4, 6, 2]) {
        assert_eq!(check(Filter { state: Some(state), ..Filter::default() }).await, expect, "{state:?}");
    }
    for (scheme, expect) in [(Scheme::Exact, 8), (Scheme::Batch, 12)] {
        assert_eq!(check(Filter { scheme: Some(scheme), ..Filter::default() }).await, expect);
    }
    let (payer, client) = (whole[1].payer.clone(), whole[8].payer.clone());
    assert_eq!(check(Filter { payer, ..Filter::default() }).await, 5);
    assert_eq!(check(Filter { payer: client, ..Filter::default() }).await, 7);
    assert_eq!(check(Filter { route: Some("chat".into()), ..Filter::default() }).await, 20);
    assert_eq!(check(Filter { route: Some("cha".into()), ..Filter::default() }).await, 0);
    let times: Vec<UnixMillis> = whole.iter().map(|entry| entry.at).collect();
    for since in &times {
        for until in &times {
            check(Filter { since: Some(*since), until: Some(*until), ..Filter::default() }).await;
        }
    }
    assert!(check(Filter { id: Some(whole[3].id.to_string()[..60].into()), ..Filter::default() }).await > 0);
}

#[tokio::test]
async fn a_page_reads_no_more_than_it_may_and_says_where_to_go_on() {
    let store = MemoryStore::new(StoreId([1; 16]));
    sample_books::many_payments(&store, 3_000).await;
    let filter = Filter { route: Some("nothing".into()), ..Filter::default() };
    let first = page(&store, &filter, Cursor::default(), 10).await.unwrap();
    assert_eq!((first.entries.len(), first.next), (0, Some(Cursor::Payment(u64::try_from(SCAN).unwrap()))));
    assert_eq!(page(&store, &filter, first.next.unwrap(), 10).await.unwrap(), Page::default());
}

#[tokio::test]
async fn an_entry_is_found_by_its_id_with_what_is_kept_of_its_answer() {
    let store = store().await;
    let whole = all(&store, &Filter::default(), 100).await;
    for (index, kept) in [(0, false), (2, true), (3, false), (9, true), (10, false)] {
        let found = find(&store, whole[index].id).await.unwrap().unwrap();
        assert_eq!((&found.entry.id, found.response.is_some()), (&whole[index].id, kept), "{index}");
        let shown: Value = serde_json::to_value(&found).unwrap();
        assert_eq!(shown["state"], whole[index].state.as_str());
    }
    assert_eq!(find(&store, TxId([0; 32])).await.unwrap(), None);
}

#[tokio::test]
async fn a_report_counts_what_was_charged_and_names_nobody() {
    let store = store().await;
    let report = |entries: Vec<Entry>| {
        let mut builder = report::Builder::default();
        entries.iter().for_each(|entry| builder.add(entry));
        serde_json::to_value(builder.finish(None, Some(UnixMillis(0)), UnixMillis(0))).unwrap()
    };
    let entries = all(&store, &Filter::default(), 100).await;
    let told = report(entries.clone());
    let totals = &told["totals"];
    let sompi = |n: u64| Value::from(n.to_string());
    // Payments 2, 3, 4 and 7, and 12 charges of 10; 6 charges are claimed.
    let exact = 4 * 25_000_000 + 2 + 3 + 4 + 7;
    assert_eq!((&totals["payments"], &totals["payers"], &totals["reversed"]), (&16.into(), &4.into(), &1.into()), "{told}");
    assert_eq!((&totals["chargedSompi"], &totals["onChainSompi"]), (&sompi(exact + 120), &sompi(exact + 60)), "{told}");
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["scheme"].as_str().unwrap()).collect::<Vec<_>>(), ["exact", "batch-settlement"]);
    let text = told.to_string();
    for secret in ["kaspasim:payer", "/v1/chat", &entries[0].id.to_string()] {
        assert!(!text.contains(secret), "{secret}");
    }
    // The root covers ids, amounts and their order, and nothing but the row's.
    let root = |told: &Value, row: usize| told["rows"][row]["root"].clone();
    let mut other = entries.clone();
    other[2].amount = Amount::from_sompi(1).unwrap();
    assert_ne!(root(&report(other), 0), root(&told, 0));
    let mut other = entries;
    other.swap(8, 9);
    let other = report(other);
    assert_eq!(root(&other, 0), root(&told, 0));
    assert_ne!(root(&other, 1), root(&told, 1));
    // One row a day.
    let mut tomorrow = entry(2, EntryState::Settled);
    tomorrow.at = tomorrow.at.plus_seconds(86_400);
    let days = report(vec![entry(1, EntryState::Settled), tomorrow]);
    assert_eq!(
        days["rows"].as_array().unwrap().iter().map(|row| row["day"].as_str().unwrap()).collect::<Vec<_>>(),
        ["1970-01-01", "1970-01-02"]
    );
    assert_eq!(report(vec![entry(1, EntryState::Pending)])["rows"], Value::Array(vec![]));
}

#[tokio::test]
async fn a_sale_from_a_channel_elsewhere_stands_in_the_books_for_what_it_costs() {
    let store = MemoryStore::new(StoreId([1; 16]));
    sample_books::sales_elsewhere(&store).await;
    let of = async |scheme| all(&store, &Filter { scheme, ..Filter::default() }, 2).await;
    let whole = of(None).await;
    let seen: Vec<_> = whole.iter().map(|entry| (entry.state.as_str(), entry.amount.sompi(), entry.scheme, entry.number)).collect();
    let batch = Scheme::Batch;
    assert_eq!(seen, [("pending", 21, batch, None), ("delivered", 22, batch, None), ("settled", 23, batch, None)]);
    assert!(whole.iter().all(|entry| entry.channel.is_some() && entry.identifier.is_some()));
    assert_eq!((of(Some(batch)).await, of(Some(Scheme::Exact)).await), (whole.clone(), vec![]));
    let found = find(&store, whole[1].id).await.unwrap().unwrap();
    assert_eq!(found.entry, whole[1]);
}
