//! What the template of this build says, as the platform reads it.

mod deployed;

use super::*;

fn function<'a>(template: &'a Template, binary: &str) -> &'a Function {
    template.functions.iter().find(|function| function.binary == binary).unwrap()
}

#[test]
fn the_table_is_the_one_that_the_code_expects() {
    let text = |text: &str| text.to_owned();
    let index =
        |name: &str| IndexShape { name: text(name), key: (format!("{name}pk"), format!("{name}sk")), keys_only: true };
    let expected =
        Shape { key: (text("pk"), text("sk")), indexes: vec![index("gsi1"), index("gsi2")], ttl: text("ttl") };
    assert_eq!(table_shape().unwrap(), expected);
}

#[test]
fn functions_have_their_sources_and_times() {
    let template = Template::of_this_build().unwrap();
    let deliver = function(&template, "deliver");
    assert_eq!(deliver.timeout, Duration::from_secs(120));
    assert_eq!(deliver.sources, [Source::Queue { queue: QueueName::Deliver, batch: 10, concurrency: 20 }]);
    let slow = function(&template, "deliver-slow");
    assert_eq!(slow.sources, [Source::Queue { queue: QueueName::DeliverSlow, batch: 10, concurrency: 10 }]);
    assert_eq!(function(&template, "relay").sources, [Source::Stream { batch: 100 }]);
    assert_eq!(function(&template, "clock").sources, [Source::Schedule { every: Duration::from_secs(60) }]);
    let auth = function(&template, "studio-auth");
    assert_eq!(auth.timeout, Duration::from_secs(29));
    assert!(auth.sources.contains(&Source::Http { method: None, path: "/api/auth/{proxy+}".into(), streams: false }));
}

#[test]
fn a_queue_hides_a_message_for_six_times_the_time_out() {
    let template = Template::of_this_build().unwrap();
    assert_eq!(template.queues.len(), QueueName::ALL.len());
    for function in &template.functions {
        for source in &function.sources {
            let Source::Queue { queue, .. } = source else { continue };
            let spec = template.queues.iter().find(|spec| spec.name == *queue).unwrap();
            assert!(spec.visibility >= function.timeout * 6, "{}", function.binary);
            assert!(spec.max_receives > 1 && spec.dead_retention >= spec.retention);
            let patience = workers::patience(*queue);
            assert!(patience < function.timeout, "{}: one message takes the others along", function.binary);
        }
    }
}

#[test]
fn a_worker_buries_a_message_when_the_queue_would_give_it_up() {
    for spec in Template::of_this_build().unwrap().queues {
        assert_eq!(spec.max_receives, spec.name.tries(), "{}", spec.name.as_str());
    }
}

#[test]
fn whoever_works_off_a_queue_is_told_of_its_dead_letters_and_so_is_the_operator() {
    let template = plain(serde_norway::from_str(TEXT).unwrap()).unwrap();
    let resources = &template["Resources"];
    let told = |function: &str, variable: &str| {
        let url = &resources[function]["Properties"]["Environment"]["Variables"][variable];
        referred(url).unwrap_or_else(|| panic!("{function} lacks {variable}")).to_owned()
    };
    let consumer = |queue: QueueName| match queue {
        QueueName::Deliver => "Deliver",
        QueueName::DeliverSlow => "DeliverSlow",
        QueueName::UsageReport => "UsageReport",
        QueueName::Turn => "Turn",
    };
    for (queue, consumer) in QueueName::ALL.iter().map(|queue| (*queue, consumer(*queue))) {
        let dead = told(consumer, queue.dead_letters_url_variable());
        let live = told("StudioAdmin", queue.url_variable());
        let redrive = &resources[&live]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"];
        assert_eq!(referred(redrive), Some(dead.as_str()));
        assert_eq!(told("StudioAdmin", queue.dead_letters_url_variable()), dead);
    }
}

#[test]
fn the_stream_lets_through_what_the_workers_read() {
    let quoted = format!("{{\"et\": {{\"S\": [\"{}\"]}}}}", shared::store::outbox::ENTITY);
    assert_eq!(TEXT.matches(&quoted).count(), 2);
}

#[test]
fn every_tag_has_its_long_form() {
    let yaml = "a: !Ref X\nb: !GetAtt X.Arn\nc: !Sub \"${X}/y\"\nd: !If [C, !Ref X, 1]\ne: !Not [!Equals [!Ref X, \"\"]]\n\
                f: !GetAtt [X, Arn]";
    let value = plain(serde_norway::from_str(yaml).unwrap()).unwrap();
    let expected = json!({
        "a": {"Ref": "X"}, "b": {"Fn::GetAtt": ["X", "Arn"]}, "c": {"Fn::Sub": "${X}/y"},
        "d": {"Fn::If": ["C", {"Ref": "X"}, 1]}, "e": {"Fn::Not": [{"Fn::Equals": [{"Ref": "X"}, ""]}]},
        "f": {"Fn::GetAtt": ["X", "Arn"]},
    });
    assert_eq!(value, expected);
    let used: std::collections::BTreeSet<_> =
        TEXT.split('!').skip(1).filter_map(|rest| rest.split([' ', '\n']).next()).collect();
    let known = ["And", "Equals", "GetAtt", "If", "Not", "Or", "Ref", "Sub"];
    assert_eq!(used.into_iter().collect::<Vec<_>>(), known);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refused = |from: &str, to: &str| Template::parse(&TEXT.replace(from, to)).unwrap_err().to_string();
    assert!(refused("rate(1 minute)", "cron(0 * * * ? *)").contains("Clock"));
    assert!(refused("Type: ScheduleV2", "Type: Kinesis").contains("Kinesis"));
    assert!(refused("BuildProperties: { Binary: clock }", "BuildProperties: {}").contains("Clock"));
    assert!(refused("Resources:", "Resource:").contains("template.yaml"));
}

#[test]
fn a_developer_may_set_another_pace() {
    let text = |name: &str| (name == "CHATIA_SCHEDULE_SECONDS").then(|| "0.5".to_owned());
    let hasty = Template::of_this_build().unwrap().at(Pace::read(text).unwrap());
    let every = Duration::from_millis(500);
    assert_eq!(function(&hasty, "clock").sources, [Source::Schedule { every }]);
    assert_eq!(hasty.queues, Template::of_this_build().unwrap().queues);
    let hasty = Template::of_this_build().unwrap().at(Pace::read(|_| Some("2".into())).unwrap());
    assert!(hasty.queues.iter().all(|queue| queue.visibility == Duration::from_secs(2)));
    for wrong in ["0", "-1", "soon"] {
        let error = Pace::read(|_| Some(wrong.into())).unwrap_err().to_string();
        assert!(error.contains("CHATIA_SCHEDULE_SECONDS"), "{error}");
    }
}

#[test]
fn rates_are_read() {
    assert_eq!(rate("rate(1 minute)"), Some(Duration::from_secs(60)));
    assert_eq!(rate("rate(2 hours)"), Some(Duration::from_secs(7200)));
    assert_eq!(rate("rate(0 minutes)"), None);
    assert_eq!(rate("cron(* * * * ? *)"), None);
}
