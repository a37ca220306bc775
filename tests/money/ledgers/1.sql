PRAGMA user_version = 1;
CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            token TEXT NOT NULL,
            request_id TEXT,
            base_url TEXT NOT NULL,
            mode TEXT NOT NULL,
            state TEXT NOT NULL,
            request TEXT,
            destination TEXT,
            promised TEXT NOT NULL,
            seed INTEGER,
            samples INTEGER,
            work INTEGER,
            sources TEXT NOT NULL,
            files TEXT NOT NULL,
            charged TEXT NOT NULL,
            cost REAL,
            expected_cost REAL NOT NULL,
            remaining_credits REAL,
            queue_time REAL,
            inference_time REAL,
            total_time REAL,
            seconds REAL,
            error TEXT,
            created_at REAL NOT NULL,
            submitted_at REAL,
            completed_at REAL,
            saved_at REAL,
            updated_at REAL NOT NULL,
            owner TEXT,
            claimed_at REAL,
            resubmit_of INTEGER,
            superseded_by INTEGER
        );
INSERT INTO "jobs" VALUES(1,'token1','00000001-c0de-4000-8000-000000000001','http://GATEWAY','async','queued','{"prompt": "a fox", "negative_prompt": "", "aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 7.0, "sampler_name": "euler", "scheduler": "beta", "steps": 40, "seed": 1, "samples": 1, "image_format": "png", "image_quality": 95, "base64": false}',NULL,'[]',1,1,41943040,'[]','{}','unknown',NULL,0.055,NULL,NULL,NULL,NULL,NULL,NULL,1796000000.0,1796000000.0,NULL,NULL,1796000000.0,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'token2',NULL,'http://GATEWAY','async','unknown','{"prompt": "a fox", "negative_prompt": "", "aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 7.0, "sampler_name": "euler", "scheduler": "beta", "steps": 40, "seed": 2, "samples": 1, "image_format": "png", "image_quality": 95, "base64": false}',NULL,'[]',2,1,41943040,'[]','{}','unknown',NULL,0.055,NULL,NULL,NULL,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'token3',NULL,'http://GATEWAY','async','failed','{"prompt": "a fox", "negative_prompt": "", "aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 7.0, "sampler_name": "euler", "scheduler": "beta", "steps": 40, "seed": 3, "samples": 1, "image_format": "png", "image_quality": 95, "base64": false}',NULL,'[]',3,1,41943040,'[]','{}','no',NULL,0.055,NULL,NULL,NULL,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,NULL);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',3);
